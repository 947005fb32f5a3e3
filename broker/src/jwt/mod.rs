//! Who is calling: JWTs (RFC 7519) of this pod's service account, verified by
//! the rules of RFC 8725.

mod authenticator;
mod bearer;
mod claims;
mod keys;
mod verifier;

#[cfg(test)]
mod authenticator_test;
#[cfg(test)]
mod forgeries;
#[cfg(test)]
#[path = "../../tests/support/issuer.rs"]
#[expect(unreachable_pub, reason = "the integration tests share this file")]
pub(crate) mod issuer;
#[cfg(test)]
pub(crate) mod scene;

pub(crate) use authenticator::{Authenticated, Authenticator};
pub(crate) use bearer::bearer;
pub(crate) use verifier::{PodIdentity, VerifierError};

/// The longest token that is looked at, in bytes.
pub(crate) const MOST_BYTES: usize = 8 * 1024;

/// Why a caller is not known. Reasons beyond [`JwtError::Invalid`] are given
/// only once the signature was found good: a forger learns nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum JwtError {
    #[error(
        "send the pod's service account token in the header Authorization: Bearer TOKEN; it is in \
         the file named in BURSAR_TOKEN_FILE"
    )]
    Missing,
    #[error(
        "the bearer token is not a valid token of this cluster: read the file named in \
         BURSAR_TOKEN_FILE again for each request, and send what is in it"
    )]
    Invalid,
    #[error("the token has expired: read its file again for each request, the kubelet renews it")]
    Expired,
    #[error("the token is not valid yet: the clocks of node and API server differ")]
    NotYetValid,
    #[error("the token is not for the audience bursar: mount a projected token with that audience")]
    WrongAudience,
    #[error("the token is not bound to a pod: use the one that is mounted in this pod")]
    NotBound,
    #[error("the token belongs to another pod: use the one that is mounted in this pod")]
    NotThisPod,
}
