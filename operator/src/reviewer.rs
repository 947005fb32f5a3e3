//! Which pod a token stands for, in the API server's own words.

use std::sync::Arc;

use bursar_crds::names::VAULT_AUDIENCE;
use bursar_vault::service::{PodReviewer, ReviewError, ReviewedPod};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

const USERNAME_PREFIX: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server about brokers' tokens.
pub(crate) struct Reviewer {
    client: Client,
}

impl Reviewer {
    /// Asks through this client.
    pub(crate) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self { client })
    }

    async fn ask(&self, token: &str) -> Result<ReviewedPod, ReviewError> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                audiences: Some(vec![VAULT_AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            status: None,
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(unavailable)?;
        let pod = bound_pod(answer).ok_or(ReviewError::Refused)?;
        let namespace_uid = self.namespace_uid(&pod.namespace).await?;
        Ok(ReviewedPod {
            namespace_uid,
            ..pod
        })
    }

    /// Live, not from a list: a recreated namespace must not pass for the one before it.
    async fn namespace_uid(&self, name: &str) -> Result<String, ReviewError> {
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let namespace = namespaces.get_opt(name).await.map_err(unavailable)?;
        namespace
            .and_then(|namespace| namespace.metadata.uid)
            .ok_or(ReviewError::Refused)
    }
}

impl PodReviewer for Reviewer {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReviewedPod, ReviewError>> {
        self.ask(token).boxed()
    }
}

fn unavailable(error: kube::Error) -> ReviewError {
    // Not its text: an error about a body may quote the body, and that has a token in it.
    let error = match error {
        kube::Error::Api(status) => status.reason,
        _ => "no answer".to_owned(),
    };
    tracing::warn!(
        error,
        "the Kubernetes API could not review a broker's token"
    );
    ReviewError::Unavailable
}

/// The pod that an authenticated token of the right audience is bound to; its namespace's UID
/// is still to be filled in.
fn bound_pod(review: TokenReview) -> Option<ReviewedPod> {
    let status = review.status?;
    // An API server that does not know audiences leaves them out: that is a refusal too.
    let for_us = status
        .audiences?
        .iter()
        .any(|audience| audience == VAULT_AUDIENCE);
    if status.authenticated != Some(true) || !for_us {
        return None;
    }
    let user = status.user?;
    let (namespace, account) = user
        .username
        .as_deref()?
        .strip_prefix(USERNAME_PREFIX)?
        .split_once(':')?;
    Some(ReviewedPod {
        namespace: namespace.to_owned(),
        namespace_uid: String::new(),
        pod_name: only(&user, POD_NAME)?,
        pod_uid: only(&user, POD_UID)?,
        service_account_name: account.to_owned(),
        service_account_uid: user.uid.clone().filter(|uid| !uid.is_empty())?,
    })
}

/// The one value of an extra claim.
fn only(user: &UserInfo, claim: &str) -> Option<String> {
    match user.extra.as_ref()?.get(claim)?.as_slice() {
        [value] if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::bound_pod;

    fn review() -> Value {
        json!({
            "spec": {},
            "status": {
                "authenticated": true,
                "audiences": ["bursar-vault"],
                "user": {
                    "username": "system:serviceaccount:team:app",
                    "uid": "account-uid",
                    "extra": {
                        "authentication.kubernetes.io/pod-name": ["pod"],
                        "authentication.kubernetes.io/pod-uid": ["pod-uid"],
                    },
                },
            },
        })
    }

    fn accepted(review: Value) -> bool {
        bound_pod(serde_json::from_value(review).unwrap()).is_some()
    }

    #[test]
    fn a_complete_review_names_the_pod() {
        let pod = bound_pod(serde_json::from_value(review()).unwrap()).unwrap();
        assert_eq!(pod.namespace, "team");
        assert_eq!(pod.service_account_name, "app");
        assert_eq!(pod.service_account_uid, "account-uid");
        assert_eq!(
            (pod.pod_name.as_str(), pod.pod_uid.as_str()),
            ("pod", "pod-uid")
        );
    }

    #[test]
    fn a_review_that_lacks_anything_names_nobody() {
        let changes: [(&str, Value); 9] = [
            ("/status", Value::Null),
            ("/status/authenticated", json!(false)),
            ("/status/audiences", Value::Null),
            (
                "/status/audiences",
                json!(["https://kubernetes.default.svc"]),
            ),
            ("/status/user/username", json!("system:node:n")),
            ("/status/user/uid", json!("")),
            ("/status/user/extra", Value::Null),
            (
                "/status/user/extra/authentication.kubernetes.io~1pod-uid",
                json!([]),
            ),
            (
                "/status/user/extra/authentication.kubernetes.io~1pod-uid",
                json!(["a", "b"]),
            ),
        ];
        for (path, value) in changes {
            let mut review = review();
            *review.pointer_mut(path).unwrap() = value.clone();
            assert!(!accepted(review), "{path} = {value}");
        }
    }
}
