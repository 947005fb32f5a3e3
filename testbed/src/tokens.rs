//! Service account tokens, as a pod's kubelet or an administrator gets them.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use crate::files::replace_private;
use crate::handle::{Handle, HandleError};
use crate::kubeconfig::{self, Cluster, Credential, KubeconfigError};
use crate::wait;

/// What Kubernetes gives a projected token unless told otherwise.
const POD_TOKEN_SECONDS: i64 = 3_600;
/// A testbed that stays up for a working week needs no renewal of this one.
const KUBECONFIG_TOKEN_SECONDS: i64 = 7 * 24 * 3_600;
/// The node authorizer learns of a new pod through a watch.
const AUTHORIZER_LIMIT: Duration = Duration::from_secs(10);

impl Handle {
    /// A token of a service account for `audience`, valid for an hour, bound to the pod
    /// `pod` if one is named. Asked for as an administrator.
    ///
    /// # Errors
    /// When the account or pod is missing or a policy forbids it.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        service_account: &str,
        audience: &str,
        pod: Option<&str>,
    ) -> Result<String, HandleError> {
        let client = self.client().await?;
        let bound = match pod {
            Some(name) => Some(reference(&client, namespace, name).await?.0),
            None => None,
        };
        let request = token_request(Some(audience), bound, POD_TOKEN_SECONDS);
        ask(&client, namespace, service_account, &request).await
    }

    /// A token for `audience`, valid for an hour, bound to the pod `pod`, of that pod's
    /// service account. Asked for as the kubelet of the pod's node does: the only way to
    /// get one where a policy refuses everyone else. Kubernetes grants it if the pod has
    /// `nodeName` and a projected volume with a token of that audience.
    ///
    /// # Errors
    /// When the pod is missing or not of that kind, or a policy forbids it.
    pub async fn node_token(
        &self,
        namespace: &str,
        pod: &str,
        audience: &str,
    ) -> Result<String, HandleError> {
        let administrator = self.client().await?;
        let (bound, pod) = reference(&administrator, namespace, pod).await?;
        let spec = pod.spec.unwrap_or_default();
        let service_account = spec.service_account_name.unwrap_or_default();
        let node = self
            .client_as_node(&spec.node_name.unwrap_or_default())
            .await?;
        let request = token_request(Some(audience), Some(bound), POD_TOKEN_SECONDS);
        let attempt = || ask(&node, namespace, &service_account, &request);
        let granted = wait::until(AUTHORIZER_LIMIT, Duration::from_millis(50), async || {
            attempt().await.ok()
        })
        .await;
        match granted {
            Some(token) => Ok(token),
            // Once more, for what the API server says.
            None => attempt().await,
        }
    }

    /// Writes a kubeconfig with a token of a service account, valid for a week, and
    /// nobody else's rights; its path, in the testbed's folder.
    ///
    /// # Errors
    /// When the account is missing or the file cannot be written.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Result<PathBuf, HandleError> {
        let client = self.client().await?;
        let request = token_request(None, None, KUBECONFIG_TOKEN_SECONDS);
        let token = ask(&client, namespace, service_account, &request).await?;
        let token_file = self
            .folder
            .join(format!("{namespace}.{service_account}.token"));
        replace_private(&token_file, token.as_bytes()).map_err(|source| {
            KubeconfigError::Write {
                path: token_file.display().to_string(),
                source,
            }
        })?;
        let path = token_file.with_extension("kubeconfig");
        let cluster = Cluster {
            url: &self.api_url,
            authority: &self.api_authority,
        };
        kubeconfig::write(&path, &cluster, &Credential::TokenFile(&token_file))?;
        Ok(path)
    }
}

/// The pod and what a token bound to it names.
async fn reference(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(BoundObjectReference, Pod), HandleError> {
    let pod = Api::<Pod>::namespaced(client.clone(), namespace)
        .get(name)
        .await
        .map_err(|source| HandleError::Kubernetes {
            what: format!("a token bound to pod {namespace}/{name}"),
            source: Box::new(source),
        })?;
    let reference = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        uid: pod.uid(),
    };
    Ok((reference, pod))
}

/// No audience means the API server's own.
fn token_request(
    audience: Option<&str>,
    bound_object_ref: Option<BoundObjectReference>,
    seconds: i64,
) -> TokenRequest {
    TokenRequest {
        spec: TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            bound_object_ref,
            expiration_seconds: Some(seconds),
        },
        ..TokenRequest::default()
    }
}

async fn ask(
    client: &Client,
    namespace: &str,
    service_account: &str,
    request: &TokenRequest,
) -> Result<String, HandleError> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let what = || format!("a token of service account {namespace}/{service_account}");
    let answer = accounts
        .create_token_request(service_account, &PostParams::default(), request)
        .await
        .map_err(|source| HandleError::Kubernetes {
            what: what(),
            source: Box::new(source),
        })?;
    let status = answer.status.ok_or_else(|| HandleError::NoStatus(what()))?;
    Ok(status.token)
}
