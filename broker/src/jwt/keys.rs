//! The cluster's keys, each pinned to one algorithm.

use std::collections::HashMap;

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Why the issuer's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("the issuer's key set is no JSON Web Key Set (RFC 7517)")]
    Malformed,
    #[error("the issuer's key set has no usable key: one with a key id, for RSA, ECDSA or Ed25519")]
    NoUsableKey,
}

/// Keys by key id.
pub(super) struct KeySet(HashMap<String, PinnedKey>);

/// A key and the only algorithm it verifies: the token does not get to choose.
pub(super) struct PinnedKey {
    pub(super) key: DecodingKey,
    pub(super) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys of no use here are passed over; of two
    /// keys with one id the first counts.
    pub(super) fn parse(jwks: &str) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_str(jwks).map_err(|_| KeySetError::Malformed)?;
        let mut keys = HashMap::new();
        for value in document.keys {
            if let Ok(jwk) = serde_json::from_value::<Jwk>(value)
                && let Some((id, key)) = pin(&jwk)
            {
                keys.entry(id).or_insert(key);
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self(keys))
    }

    pub(super) fn get(&self, id: &str) -> Option<&PinnedKey> {
        self.0.get(id)
    }
}

fn pin(jwk: &Jwk) -> Option<(String, PinnedKey)> {
    let common = &jwk.common;
    let id = common.key_id.clone().filter(|id| !id.is_empty())?;
    if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    if let Some(operations) = &common.key_operations
        && !operations.contains(&KeyOperations::Verify)
    {
        return None;
    }
    let algorithm = algorithm(&jwk.algorithm, common.key_algorithm)?;
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some((id, PinnedKey { key, algorithm }))
}

/// The key's type decides, and its `alg` where the type leaves a choice.
fn algorithm(parameters: &AlgorithmParameters, named: Option<KeyAlgorithm>) -> Option<Algorithm> {
    let only = |algorithm: Algorithm| {
        named
            .is_none_or(|named| named == algorithm.into())
            .then_some(algorithm)
    };
    match parameters {
        AlgorithmParameters::RSA(_) => match named {
            None | Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
            Some(KeyAlgorithm::RS384) => Some(Algorithm::RS384),
            Some(KeyAlgorithm::RS512) => Some(Algorithm::RS512),
            Some(KeyAlgorithm::PS256) => Some(Algorithm::PS256),
            Some(KeyAlgorithm::PS384) => Some(Algorithm::PS384),
            Some(KeyAlgorithm::PS512) => Some(Algorithm::PS512),
            Some(_) => None,
        },
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => only(Algorithm::ES256),
            EllipticCurve::P384 => only(Algorithm::ES384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(okp) => match okp.curve {
            EllipticCurve::Ed25519 => only(Algorithm::EdDSA),
            _ => None,
        },
        // A symmetric key would let whoever verifies also sign.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn okp(more: &Value) -> Value {
        let mut key = json!({
            "kty": "OKP", "crv": "Ed25519", "kid": "k1",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(&json!({ "keys": keys }).to_string())
    }

    #[test]
    fn a_key_is_pinned_to_the_algorithm_of_its_type() {
        let set = parse(&[okp(&json!({}))]).unwrap();
        assert_eq!(set.get("k1").unwrap().algorithm, Algorithm::EdDSA);
        assert!(set.get("k2").is_none());
    }

    #[test]
    fn keys_of_no_use_are_passed_over() {
        let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"});
        let useless = [
            symmetric,
            json!({"kty": "new", "kid": "k1"}),
            json!("no object"),
            okp(&json!({"kid": ""})),
            okp(&json!({"use": "enc"})),
            okp(&json!({"key_ops": ["sign"]})),
            okp(&json!({"alg": "RS256"})),
            okp(&json!({"crv": "P-256"})),
        ];
        for key in &useless {
            assert!(
                matches!(
                    parse(std::slice::from_ref(key)),
                    Err(KeySetError::NoUsableKey)
                ),
                "{key}"
            );
        }
        let mut with_a_good_one = useless.to_vec();
        with_a_good_one.push(okp(&json!({"kid": "good", "use": "sig", "alg": "EdDSA"})));
        assert!(parse(&with_a_good_one).unwrap().get("good").is_some());
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in ["", "[]", "{}", "{\"keys\":{}}"] {
            assert!(
                matches!(KeySet::parse(text), Err(KeySetError::Malformed)),
                "{text}"
            );
        }
    }
}
