//! Whether a namespace is onboarded: whether the API server lets this process list and watch
//! its Secrets.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// Asks for both verbs.
///
/// # Errors
/// When the API server does not say.
pub(crate) async fn may_watch_secrets(
    client: &Client,
    namespace: &str,
) -> Result<bool, kube::Error> {
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    for verb in ["list", "watch"] {
        let answer = reviews
            .create(&PostParams::default(), &question(namespace, verb))
            .await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn question(namespace: &str, verb: &str) -> SelfSubjectAccessReview {
    SelfSubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                resource: Some("secrets".to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        status: None,
    }
}
