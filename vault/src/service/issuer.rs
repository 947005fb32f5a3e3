//! Who signs the tokens of pods, and with which keys.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use bursar_wire::v1alpha1;

/// The cluster's issuer of service account tokens, as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadIssuer {
    /// The value of `iss`.
    pub issuer: String,
    /// The JSON Web Key Set (RFC 7517), as published by the API server.
    pub jwks: String,
}

impl From<&WorkloadIssuer> for v1alpha1::WorkloadIssuer {
    fn from(issuer: &WorkloadIssuer) -> Self {
        Self {
            issuer: issuer.issuer.clone(),
            jwks: issuer.jwks.clone(),
        }
    }
}

/// Why an issuer cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key set cannot be parsed.
    #[error("the issuer's JWKS is not a JSON Web Key Set; check GET /openid/v1/jwks")]
    NotAKeySet,
    /// It can, and no key in it can verify a signature.
    #[error("the issuer's JWKS has no key of kind RSA, EC P-256 or EC P-384 with a key id")]
    NoUsableKey,
    /// There is no issuer to compare `iss` with.
    #[error("the issuer is empty; check the API server's --service-account-issuer")]
    NoIssuer,
}

/// An issuer whose keys have been read.
pub(crate) struct TrustedIssuer {
    document: WorkloadIssuer,
    keys: Vec<IssuerKey>,
}

/// One key, for one algorithm: the token's header has no say in which.
pub(crate) struct IssuerKey {
    id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

impl TrustedIssuer {
    /// Reads the keys; those of unknown kinds are left out.
    pub(crate) fn read(document: WorkloadIssuer) -> Result<Self, IssuerError> {
        if document.issuer.is_empty() {
            return Err(IssuerError::NoIssuer);
        }
        let set: JwkSet =
            serde_json::from_str(&document.jwks).map_err(|_| IssuerError::NotAKeySet)?;
        let keys: Vec<IssuerKey> = set.keys.iter().filter_map(IssuerKey::read).collect();
        if keys.is_empty() {
            return Err(IssuerError::NoUsableKey);
        }
        Ok(Self { document, keys })
    }

    pub(crate) fn document(&self) -> &WorkloadIssuer {
        &self.document
    }

    pub(crate) fn key(&self, id: &str) -> Option<&IssuerKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl IssuerKey {
    fn read(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                Algorithm::ES384
            }
            // Symmetric keys above all: a public key must never pass for one.
            _ => return None,
        };
        let declared = jwk.common.key_algorithm;
        if declared.is_some_and(|declared| declared != algorithm.into()) {
            return None;
        }
        let usage = jwk.common.public_key_use.as_ref();
        if usage.is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        Some(Self {
            id: jwk.common.key_id.clone()?,
            algorithm,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}
