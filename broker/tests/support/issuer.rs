//! A cluster's token issuer that signs whatever a test asks it to.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The issuer's URL.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The pod that the broker under test serves.
pub const NAMESPACE: &str = "team-a";
pub const POD_NAME: &str = "worker-0";
pub const POD_UID: &str = "5d1c8a52-6f0e-4a57-9a0f-2f7d1c3b9e10";
pub const SERVICE_ACCOUNT: &str = "worker";

/// How a token is signed.
#[derive(Clone, Copy, Debug)]
pub enum Signature {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
}

/// An issuer with an RSA key (id `rsa`) and a P-256 key (id `ec`).
pub struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    pub fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    /// The public RSA key.
    pub fn rsa_jwk(&self) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public_key());
        json!({
            "kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
            "n": base64url(&public.n), "e": base64url(&public.e),
        })
    }

    /// The public P-256 key.
    pub fn ec_jwk(&self) -> Value {
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256",
            "x": base64url(x), "y": base64url(y),
        })
    }

    /// Its key set.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.rsa_jwk(), self.ec_jwk()] }).to_string()
    }

    /// A token as the API server makes it.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(
            Signature::Rs256,
            &json!({"alg": "RS256", "kid": "rsa"}),
            claims,
        )
    }

    /// A token with any header and claims, signed well.
    pub fn sign(&self, signature: Signature, header: &Value, claims: &Value) -> String {
        self.sign_text(
            signature,
            &header.to_string(),
            claims.to_string().as_bytes(),
        )
    }

    /// The same for what need not be JSON.
    pub fn sign_text(&self, signature: Signature, header: &str, claims: &[u8]) -> String {
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims));
        let bytes = match signature {
            Signature::Rs256 => self.rsa_sign(&RSA_PKCS1_SHA256, &message),
            Signature::Rs384 => self.rsa_sign(&RSA_PKCS1_SHA384, &message),
            Signature::Rs512 => self.rsa_sign(&RSA_PKCS1_SHA512, &message),
            Signature::Ps256 => self.rsa_sign(&RSA_PSS_SHA256, &message),
            Signature::Es256 => {
                let random = SystemRandom::new();
                self.ec
                    .sign(&random, message.as_bytes())
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }
        };
        format!("{message}.{}", base64url(&bytes))
    }

    fn rsa_sign(&self, encoding: &'static dyn RsaEncoding, message: &str) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let random = SystemRandom::new();
        self.rsa
            .sign(encoding, &random, message.as_bytes(), &mut signature)
            .unwrap();
        signature
    }
}

/// The claims of a good token of the pod, issued at `now` for an hour.
pub fn good_claims(now_seconds: i64) -> Value {
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"),
        "aud": ["bursar"],
        "exp": now_seconds + 3_600,
        "nbf": now_seconds,
        "iat": now_seconds,
        "jti": "0f0e0d0c-0b0a-0908-0706-050403020100",
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "node": {"name": "node-1", "uid": "n-1"},
            "pod": {"name": POD_NAME, "uid": POD_UID},
            "serviceaccount": {"name": SERVICE_ACCOUNT, "uid": "sa-1"},
        },
    })
}

/// Bytes as they stand in a JWT.
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
