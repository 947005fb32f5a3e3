//! Whether a Secret that the label-selected watch does not show exists at all.

use bursar_crds::names::{SOURCE_LABEL, SOURCE_LABEL_VALUE};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

/// What there is under a Secret's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    /// Nothing.
    Absent,
    /// A Secret that is not labelled as a source.
    Unlabelled,
    /// A labelled one, which the watch is about to show.
    Arriving,
}

/// Asks for the metadata alone: a Secret that was not meant for Bursar is never read.
///
/// # Errors
/// When the API server does not say.
pub(crate) async fn probe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Presence, kube::Error> {
    let secrets = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
    Ok(match secrets.get_opt(name).await? {
        None => Presence::Absent,
        Some(secret) => match secret.labels().get(SOURCE_LABEL) {
            Some(value) if value == SOURCE_LABEL_VALUE => Presence::Arriving,
            _ => Presence::Unlabelled,
        },
    })
}
