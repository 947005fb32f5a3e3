//! Local verification of service account tokens (RFC 7519, RFC 8725): a broker's own, and those
//! that people's tools show.
//!
//! The key, and with it the algorithm, comes from the cluster's key set; the
//! token only says which key. Every claim that is used later must be there and
//! of its type.

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::issuer::TrustedIssuer;

/// The audience of the token that a broker shows to the vault, and nobody else.
pub const BROKER_AUDIENCE: &str = "bursar-vault";

/// Longer tokens are refused unread, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Difference allowed between the cluster's clock and ours, in seconds.
const LEEWAY: i64 = 5;

/// Why a token was refused. The caller is not told which; the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum TokenRefused {
    #[error("it is longer than 8 KiB")]
    TooLong,
    #[error("it is not a JWT, or its header has fields other than alg, kid and typ")]
    Malformed,
    #[error("its key id is none of the issuer's")]
    UnknownKey,
    #[error("its algorithm is not the one of its key")]
    Algorithm,
    #[error("its signature does not fit")]
    Signature,
    #[error("a claim is missing or of the wrong type")]
    Claims,
    #[error("its issuer is not the cluster's")]
    Issuer,
    #[error("its audience is not the one it is shown for, alone")]
    Audience,
    #[error("it has expired; check the clocks if it is fresh")]
    Expired,
    #[error("it is not valid yet; check the clocks")]
    NotYetValid,
    #[error("its subject is not the service account in its claims")]
    Subject,
}

/// What the token says of its pod. True, but perhaps no longer so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodClaims {
    pub(crate) namespace: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
    pub(crate) service_account_name: String,
    pub(crate) service_account_uid: String,
}

/// Whose token it is, whether or not it is bound to a pod. True, but perhaps no longer so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountClaims {
    /// The service account's namespace.
    pub namespace: String,
    /// Its name.
    pub service_account_name: String,
    /// Its UID.
    pub service_account_uid: String,
}

#[derive(Deserialize)]
struct Claims<K> {
    sub: String,
    aud: Vec<String>,
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: K,
}

#[derive(Deserialize)]
struct OfPod {
    namespace: String,
    pod: ObjectClaims,
    serviceaccount: ObjectClaims,
}

#[derive(Deserialize)]
struct OfAccount {
    namespace: String,
    serviceaccount: ObjectClaims,
}

#[derive(Deserialize)]
struct ObjectClaims {
    name: String,
    uid: String,
}

/// Verifies a token of the cluster's issuer for [`BROKER_AUDIENCE`].
///
/// # Errors
/// The first rule the token breaks.
pub(crate) fn verify(
    token: &str,
    issuer: &TrustedIssuer,
    now: Timestamp,
) -> Result<PodClaims, TokenRefused> {
    let (subject, of_pod) = verified::<OfPod>(token, issuer, BROKER_AUDIENCE, now)?;
    let OfPod {
        namespace,
        pod,
        serviceaccount,
    } = of_pod;
    let account = account(&subject, namespace, serviceaccount)?;
    if pod.name.is_empty() || pod.uid.is_empty() {
        return Err(TokenRefused::Claims);
    }
    Ok(PodClaims {
        namespace: account.namespace,
        pod_name: pod.name,
        pod_uid: pod.uid,
        service_account_name: account.service_account_name,
        service_account_uid: account.service_account_uid,
    })
}

/// Verifies a token of the cluster's issuer for another audience.
///
/// # Errors
/// The first rule the token breaks.
pub(crate) fn verify_account(
    token: &str,
    issuer: &TrustedIssuer,
    audience: &str,
    now: Timestamp,
) -> Result<AccountClaims, TokenRefused> {
    let (subject, claims) = verified::<OfAccount>(token, issuer, audience, now)?;
    account(&subject, claims.namespace, claims.serviceaccount)
}

/// The subject of a token that keeps all rules, and what Kubernetes says in it.
fn verified<K: DeserializeOwned>(
    token: &str,
    issuer: &TrustedIssuer,
    audience: &str,
    now: Timestamp,
) -> Result<(String, K), TokenRefused> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenRefused::TooLong);
    }
    let (key_id, algorithm) = header(token)?;
    let key = issuer.key(&key_id).ok_or(TokenRefused::UnknownKey)?;
    if algorithm != key.algorithm {
        return Err(TokenRefused::Algorithm);
    }
    let mut validation = Validation::new(key.algorithm);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    validation.set_issuer(&[&issuer.document().issuer]);
    validation.set_audience(&[audience]);
    // Checked below, by the clock that is passed in.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let claims = decode::<Claims<K>>(token, &key.key, &validation)
        .map_err(|error| refused(error.kind()))?
        .claims;

    if claims.aud != [audience] {
        return Err(TokenRefused::Audience);
    }
    let now = now.as_second();
    if claims.exp.saturating_add(LEEWAY) <= now {
        return Err(TokenRefused::Expired);
    }
    if claims
        .nbf
        .is_some_and(|nbf| nbf.saturating_sub(LEEWAY) > now)
    {
        return Err(TokenRefused::NotYetValid);
    }
    Ok((claims.sub, claims.kubernetes))
}

/// The key id and algorithm the token claims.
///
/// Headers that bring a key along, or ask for more than we understand (`jku`,
/// `jwk`, `x5u`, `crit`), are refused by refusing all but alg, kid and typ.
fn header(token: &str) -> Result<(String, Algorithm), TokenRefused> {
    let header = decode_header(token).map_err(|_| TokenRefused::Malformed)?;
    let plain = Header {
        kid: header.kid.clone(),
        typ: header.typ.clone(),
        ..Header::new(header.alg)
    };
    if header != plain || header.typ.is_some_and(|typ| typ != "JWT") {
        return Err(TokenRefused::Malformed);
    }
    Ok((header.kid.ok_or(TokenRefused::UnknownKey)?, header.alg))
}

fn account(
    subject: &str,
    namespace: String,
    account: ObjectClaims,
) -> Result<AccountClaims, TokenRefused> {
    let ObjectClaims { name, uid } = account;
    if [&namespace, &name, &uid].iter().any(|text| text.is_empty()) {
        return Err(TokenRefused::Claims);
    }
    if subject != format!("system:serviceaccount:{namespace}:{name}") {
        return Err(TokenRefused::Subject);
    }
    Ok(AccountClaims {
        namespace,
        service_account_name: name,
        service_account_uid: uid,
    })
}

fn refused(kind: &ErrorKind) -> TokenRefused {
    match kind {
        ErrorKind::InvalidSignature => TokenRefused::Signature,
        ErrorKind::InvalidIssuer => TokenRefused::Issuer,
        ErrorKind::InvalidAudience => TokenRefused::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => TokenRefused::Claims,
        _ => TokenRefused::Malformed,
    }
}
