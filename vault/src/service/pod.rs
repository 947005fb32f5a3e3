//! Which pod a broker belongs to: what the vault asks of the cluster's API.

use futures::future::BoxFuture;

/// Asks the API server whether a broker's token is genuine and still good.
///
/// The vault has verified the token locally before it asks, and compares the
/// answer with the token's own claims.
pub trait PodReviewer: Send + Sync + 'static {
    /// Reviews a token of audience [`BROKER_AUDIENCE`](super::BROKER_AUDIENCE).
    ///
    /// # Errors
    /// [`ReviewError::Refused`] when the API server does not vouch for the token,
    /// the audience, or a pod and a namespace that exist;
    /// [`ReviewError::Unavailable`] when it gave no answer.
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReviewedPod, ReviewError>>;
}

/// The identity the API server vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewedPod {
    /// The pod's namespace.
    pub namespace: String,
    /// `metadata.uid` of the namespace as it is now: a recreated one is another tenant.
    pub namespace_uid: String,
    /// The pod's name.
    pub pod_name: String,
    /// `metadata.uid` of the pod.
    pub pod_uid: String,
    /// The service account the pod runs as.
    pub service_account_name: String,
    /// `metadata.uid` of the service account.
    pub service_account_uid: String,
}

/// Why a pod was not vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The API server says no.
    #[error("the API server does not vouch for the token, its audience, its pod or its namespace")]
    Refused,
    /// The API server says nothing.
    #[error("the API server does not answer token reviews; the broker will try again")]
    Unavailable,
}
