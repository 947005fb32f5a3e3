//! As whom the operator works.

use std::time::Duration;

use bursar_crds::names::{OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::readiness::{Part, Readiness};

const RETRY: Duration = Duration::from_secs(2);

/// The operator works as somebody else.
///
/// What only Bursar may write, the API server's policies refuse to all others, whatever their
/// rights: objects would become ready, and no broker could connect.
#[derive(Debug, thiserror::Error)]
#[error(
    "the API server knows this process as {is}; run it as {must_be}, in a pod or with a kubeconfig \
     that has a token of that account: what only it may write would be refused"
)]
pub struct ForeignAccount {
    is: String,
    must_be: String,
}

/// Asks the API server until there is an answer.
///
/// # Errors
/// [`ForeignAccount`].
pub(crate) async fn check(client: &Client, readiness: &Readiness) -> Result<(), ForeignAccount> {
    let reviews = Api::<SelfSubjectReview>::all(client.clone());
    // As the policies have it.
    let must_be = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}");
    loop {
        let review = SelfSubjectReview::default();
        let why = match reviews.create(&PostParams::default(), &review).await {
            Ok(review) => {
                let user = review.status.and_then(|status| status.user_info);
                let is = user.and_then(|user| user.username).unwrap_or_default();
                return if is == must_be {
                    Ok(())
                } else {
                    Err(ForeignAccount { is, must_be })
                };
            }
            Err(error) => format!("cannot ask who this process is: {error}"),
        };
        readiness.not_ready(Part::Kubernetes, why);
        tokio::time::sleep(RETRY).await;
    }
}
