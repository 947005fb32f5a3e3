//! A pod whose callers are known, for tests.

use bursar_wire::v1alpha1::WorkloadIssuer;

use super::issuer::{ISSUER, Issuer, NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT};
use super::{Authenticator, PodIdentity};

/// What knows the pod that [`good_claims`](super::issuer::good_claims) are of.
pub(crate) fn authenticator(issuer: &Issuer) -> Authenticator {
    let pod = PodIdentity {
        namespace: NAMESPACE.to_owned(),
        name: POD_NAME.to_owned(),
        uid: POD_UID.to_owned(),
        service_account_name: SERVICE_ACCOUNT.to_owned(),
    };
    let issuer = WorkloadIssuer {
        issuer: ISSUER.to_owned(),
        jwks: issuer.jwks(),
    };
    Authenticator::new(&issuer, pod).unwrap()
}
