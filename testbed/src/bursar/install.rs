//! Installing Bursar in the cluster, as a person would with kubectl, and letting it into
//! namespaces.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use super::{BursarError, in_repository};
use crate::handle::{Handle, HandleError};
use crate::process::Spec;
use crate::random;

/// The operator's namespace.
pub(super) const NAMESPACE: &str = "bursar-system";
const KUBECTL_LIMIT: Duration = Duration::from_secs(120);

impl Handle {
    /// Installs Bursar's kinds, then the namespace, rights and policies of the operator, as
    /// the README says, and gives people the rights that come with them. Installed before,
    /// also by other means, they are brought up to date.
    ///
    /// # Errors
    /// When the API server refuses, or a kind is not served in a minute.
    pub async fn install_bursar(&self) -> Result<(), BursarError> {
        let kinds = in_repository("crds/manifests");
        let rights = in_repository("operator/manifests");
        let apply = ["apply", "--server-side", "--force-conflicts", "--filename"];
        let established = ["wait", "--for=condition=Established", "--timeout=60s"];
        let steps = [
            kubectl(self).args(apply).arg(&kinds),
            kubectl(self)
                .args(established)
                .arg("--filename")
                .arg(&kinds),
            kubectl(self).args(apply).arg(rights),
        ];
        for step in steps {
            step.run(KUBECTL_LIMIT).await?;
        }
        Ok(self.aggregate_roles().await?)
    }

    /// Onboards a namespace, as its administrator would: a RoleBinding `bursar` lets the
    /// operator read its Secrets.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn onboard(&self, namespace: &str) -> Result<(), HandleError> {
        let binding = RoleBinding {
            metadata: ObjectMeta {
                name: Some("bursar".to_owned()),
                ..ObjectMeta::default()
            },
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned(),
                kind: "ClusterRole".to_owned(),
                name: "bursar-onboarded".to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: "bursar-operator".to_owned(),
                namespace: Some(NAMESPACE.to_owned()),
                api_group: None,
            }]),
        };
        Api::<RoleBinding>::namespaced(self.client().await?, namespace)
            .create(&PostParams::default(), &binding)
            .await
            .map_err(|source| HandleError::Kubernetes {
                what: format!("rolebinding {namespace}/bursar"),
                source: Box::new(source),
            })?;
        Ok(())
    }
}

/// Applies a folder of the repository, in the order of its file names; as a person does, who
/// may then change a file and apply it again without a word from kubectl about that.
pub(super) async fn apply(testbed: &Handle, folder: &str) -> Result<(), BursarError> {
    let folder = in_repository(folder);
    Ok(kubectl(testbed)
        .args(["apply", "-f"])
        .arg(folder)
        .run(KUBECTL_LIMIT)
        .await?)
}

/// Waits until every object of the kinds `resources` (separated by commas) is ready.
pub(super) async fn wait_ready(
    testbed: &Handle,
    namespace: &str,
    resources: &str,
) -> Result<(), BursarError> {
    Ok(kubectl(testbed)
        .args(["wait", "--for=condition=Ready", "--timeout=60s", "--all"])
        .args(["--namespace", namespace, resources])
        .run(KUBECTL_LIMIT)
        .await?)
}

/// Makes the root key as an installer does: 32 random bytes, version 1.
pub(super) async fn create_root_key(testbed: &Handle) -> Result<[u8; 32], BursarError> {
    let key = random::key()?;
    let mut secret = Secret::default();
    secret.metadata.name = Some("bursar-root-key".to_owned());
    secret.data = Some([("1".to_owned(), ByteString(key.to_vec()))].into());
    Api::<Secret>::namespaced(testbed.client().await?, NAMESPACE)
        .create(&PostParams::default(), &secret)
        .await
        .map_err(|source| HandleError::Kubernetes {
            what: format!("secret {NAMESPACE}/bursar-root-key"),
            source: Box::new(source),
        })?;
    Ok(key)
}

fn kubectl(testbed: &Handle) -> Spec {
    Spec::new(
        "kubectl",
        testbed.kubectl(),
        testbed.folder().join("kubectl.log"),
    )
    .arg("--kubeconfig")
    .arg(testbed.kubeconfig())
    .arg("--cache-dir")
    .arg(testbed.kubectl_cache())
}
