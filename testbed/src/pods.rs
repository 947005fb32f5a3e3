//! Pods that no kubelet runs: for the vault, a process of ours with such a pod's token is
//! that pod's sidecar.

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::handle::{Handle, HandleError};

/// The node that the pods of tests are bound to. There is no such node, and none is
/// needed to ask for tokens in its name.
const NODE: &str = "testbed-node";

impl Handle {
    /// Makes a service account.
    ///
    /// # Errors
    /// When the API server refuses, for example because it exists.
    pub async fn create_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(), HandleError> {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(name.to_owned());
        Api::<ServiceAccount>::namespaced(self.client().await?, namespace)
            .create(&PostParams::default(), &account)
            .await
            .map_err(refused(&format!("service account {namespace}/{name}")))?;
        Ok(())
    }

    /// Makes a pod of a service account, bound to a node, with the two projected tokens
    /// that go with a broker: audience `bursar` for the application and `bursar-vault`
    /// for the broker. Its UID.
    ///
    /// # Errors
    /// When the API server refuses, for example because the service account is missing.
    pub async fn create_pod(
        &self,
        namespace: &str,
        name: &str,
        service_account: &str,
    ) -> Result<String, HandleError> {
        let what = format!("pod {namespace}/{name}");
        let token = |audience| {
            json!({
                "name": audience,
                "projected": { "sources": [
                    { "serviceAccountToken": { "audience": audience, "path": "token" } },
                ] },
            })
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "nodeName": NODE,
                "serviceAccountName": service_account,
                "containers": [{ "name": "app", "image": "app" }],
                "volumes": [token("bursar"), token("bursar-vault")],
            },
        }))
        .map_err(|error| refused(&what)(kube::Error::SerdeError(error)))?;
        let pod = Api::<Pod>::namespaced(self.client().await?, namespace)
            .create(&PostParams::default(), &pod)
            .await
            .map_err(refused(&what))?;
        Ok(pod.uid().unwrap_or_default())
    }

    /// Removes a pod at once: no kubelet would confirm that it has ended.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_pod(&self, namespace: &str, name: &str) -> Result<(), HandleError> {
        let at_once = DeleteParams::default().grace_period(0);
        Api::<Pod>::namespaced(self.client().await?, namespace)
            .delete(name, &at_once)
            .await
            .map_err(|source| HandleError::Remove {
                what: format!("pod {namespace}/{name}"),
                source: Box::new(source),
            })?;
        Ok(())
    }
}

fn refused(what: &str) -> impl FnOnce(kube::Error) -> HandleError {
    let what = what.to_owned();
    move |source| HandleError::Kubernetes {
        what,
        source: Box::new(source),
    }
}
