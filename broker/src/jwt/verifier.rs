//! Whether a token was issued by the cluster, to this very pod, for Bursar, and
//! is good now.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar_wire::v1alpha1::{Pod, WorkloadIssuer};
use serde::de::DeserializeOwned;

use super::claims::{Claims, Header};
use super::keys::{KeySet, KeySetError};
use super::{JwtError, MOST_BYTES};
use crate::clock::UnixMillis;

/// The audience of the tokens that workloads show.
const AUDIENCE: &str = "bursar";

/// How far the clocks of node and API server may be apart, in seconds.
const LEEWAY_SECONDS: i64 = 5;

/// The pod this broker serves, as the API server told the vault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodIdentity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) service_account_name: String,
}

impl From<&Pod> for PodIdentity {
    fn from(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            service_account_name: pod.service_account_name.clone(),
        }
    }
}

/// Why tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifierError {
    #[error("the vault did not say who issues this cluster's service account tokens")]
    NoIssuer,
    #[error("the vault did not say which pod this is")]
    NoPod,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Verifies workload JWTs for one pod.
pub(super) struct WorkloadVerifier {
    issuer: String,
    keys: KeySet,
    pod: PodIdentity,
    subject: String,
}

impl WorkloadVerifier {
    /// A verifier for tokens of `pod` that `issuer` has signed.
    ///
    /// # Errors
    /// When an issuer, a usable key or part of the pod's identity is missing.
    pub(super) fn new(issuer: &WorkloadIssuer, pod: PodIdentity) -> Result<Self, VerifierError> {
        if issuer.issuer.is_empty() {
            return Err(VerifierError::NoIssuer);
        }
        let parts = [
            &pod.namespace,
            &pod.name,
            &pod.uid,
            &pod.service_account_name,
        ];
        if parts.iter().any(|part| part.is_empty()) {
            return Err(VerifierError::NoPod);
        }
        let subject = format!(
            "system:serviceaccount:{}:{}",
            pod.namespace, pod.service_account_name
        );
        let keys = KeySet::parse(&issuer.jwks)?;
        Ok(Self {
            issuer: issuer.issuer.clone(),
            keys,
            pod,
            subject,
        })
    }

    /// Verifies `token`; returns when it expires.
    ///
    /// # Errors
    /// [`JwtError`]: the signature comes first, whatever else is wrong.
    pub(super) fn verify(&self, token: &str, now: UnixMillis) -> Result<UnixMillis, JwtError> {
        let claims = self.signed_claims(token)?;
        if claims.iss != self.issuer {
            return Err(JwtError::Invalid);
        }
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= now.seconds() {
            return Err(JwtError::Expired);
        }
        if claims.nbf > now.seconds().saturating_add(LEEWAY_SECONDS) {
            return Err(JwtError::NotYetValid);
        }
        if !claims.aud.contains(AUDIENCE) {
            return Err(JwtError::WrongAudience);
        }
        let bound = &claims.kubernetes;
        let this_pod = bound.pod.uid == self.pod.uid
            && bound.pod.name == self.pod.name
            && bound.namespace == self.pod.namespace
            && bound.serviceaccount.name == self.pod.service_account_name
            && !bound.serviceaccount.uid.is_empty()
            && claims.sub == self.subject;
        if !this_pod {
            return Err(JwtError::NotThisPod);
        }
        Ok(UnixMillis(claims.exp.saturating_mul(1000)))
    }

    /// The claims of a token that one of the issuer's keys has signed.
    fn signed_claims(&self, token: &str) -> Result<Claims, JwtError> {
        if token.len() > MOST_BYTES {
            return Err(JwtError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Invalid)?;
        let (header, claims) = message.split_once('.').ok_or(JwtError::Invalid)?;
        let header: Header = decode(header)?;
        if header
            .typ
            .is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt"))
        {
            return Err(JwtError::Invalid);
        }
        let pinned = self.keys.get(&header.kid).ok_or(JwtError::Invalid)?;
        if header.alg.parse().ok() != Some(pinned.algorithm) {
            return Err(JwtError::Invalid);
        }
        let good = jsonwebtoken::crypto::verify(
            signature,
            message.as_bytes(),
            &pinned.key,
            pinned.algorithm,
        );
        if !matches!(good, Ok(true)) {
            return Err(JwtError::Invalid);
        }
        // Signed by the cluster, so the author may know what is missing: all that
        // a token needs stands in those that are mounted in pods.
        decode(claims).map_err(|_| JwtError::NotBound)
    }
}

/// A part of a JWT: JSON in base64url without padding.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Invalid)?;
    serde_json::from_slice(&json).map_err(|_| JwtError::Invalid)
}
