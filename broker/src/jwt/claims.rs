//! What a service account token says, typed. A claim that is missing, repeated
//! or of another type makes the whole token unreadable.

use serde::Deserialize;

/// The header. Anything beyond these three (`crit`, `jku`, `jwk`, `x5u`, ...)
/// would ask the verifier to take a key or a rule from the token itself; the
/// API server writes none of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: String,
    #[serde(default)]
    pub(super) typ: Option<String>,
}

/// The claims. The API server writes more; what is not checked is not read.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: Audience,
    /// Seconds since the Unix epoch, as are the next two.
    pub(super) exp: i64,
    pub(super) nbf: i64,
    #[serde(rename = "iat")]
    _iat: i64,
    #[serde(rename = "kubernetes.io")]
    pub(super) kubernetes: Kubernetes,
}

/// One audience or several (RFC 7519, section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// What the API server bound the token to.
#[derive(Deserialize)]
pub(super) struct Kubernetes {
    pub(super) namespace: String,
    pub(super) pod: Object,
    pub(super) serviceaccount: Object,
}

/// An object of the token's namespace.
#[derive(Deserialize)]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) uid: String,
}
