//! What the cluster is called in the vault.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

use crate::readiness::{Part, Readiness};

const RETRY: Duration = Duration::from_secs(2);

/// The UID of the namespace kube-system, which lives as long as the cluster; asked for until
/// there is an answer.
pub(crate) async fn id(client: &Client, readiness: &Readiness) -> String {
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    loop {
        let why = match namespaces
            .get("kube-system")
            .await
            .map(|namespace| namespace.uid())
        {
            Ok(Some(uid)) => {
                readiness.ready(Part::Kubernetes);
                return uid;
            }
            Ok(None) => "namespace kube-system has no UID".to_owned(),
            Err(error) => format!("cannot read namespace kube-system: {error}"),
        };
        readiness.not_ready(Part::Kubernetes, why);
        tokio::time::sleep(RETRY).await;
    }
}
