//! A cluster's issuer of service account tokens, and the reviewer that goes with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use bursar_vault::service::{PodReviewer, ReviewError, ReviewedPod, WorkloadIssuer};
use bursar_vault::{Clock, SystemClock};
use futures::future::BoxFuture;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use super::Team;

pub(crate) const ISSUER: &str = "https://kubernetes.test";

/// A pod, as its token describes it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) namespace_uid: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) service_account: String,
    pub(crate) service_account_uid: String,
}

impl Pod {
    pub(crate) fn new(team: &Team, service_account: &str) -> Self {
        let uid = Uuid::new_v4().to_string();
        Self {
            namespace: team.namespace.clone(),
            namespace_uid: team.namespace_uid.clone(),
            name: format!("pod-{}", &uid[..8]),
            service_account: service_account.to_owned(),
            // One object per name in these tests.
            service_account_uid: format!("uid-of-{service_account}"),
            uid,
        }
    }

    /// What the API server says of it.
    pub(crate) fn reviewed(&self) -> ReviewedPod {
        ReviewedPod {
            namespace: self.namespace.clone(),
            namespace_uid: self.namespace_uid.clone(),
            pod_name: self.name.clone(),
            pod_uid: self.uid.clone(),
            service_account_name: self.service_account.clone(),
            service_account_uid: self.service_account_uid.clone(),
        }
    }

    /// The claims of a token that is good for an hour from now.
    pub(crate) fn claims(&self) -> Value {
        let now = now();
        json!({
            "iss": ISSUER,
            "aud": ["bursar-vault"],
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.service_account),
            "exp": now + 3600,
            "iat": now,
            "nbf": now,
            "jti": Uuid::new_v4().to_string(),
            "kubernetes.io": {
                "namespace": self.namespace,
                "node": {"name": "node", "uid": "node-uid"},
                "pod": {"name": self.name, "uid": self.uid},
                "serviceaccount": {
                    "name": self.service_account,
                    "uid": self.service_account_uid,
                },
            },
        })
    }
}

pub(crate) fn now() -> i64 {
    SystemClock.now().as_second()
}

/// A key of the issuer.
pub(crate) struct IssuerKey {
    pub(crate) algorithm: Algorithm,
    pub(crate) id: &'static str,
    pub(crate) key: EncodingKey,
}

impl IssuerKey {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        Self {
            algorithm: Algorithm::RS256,
            id,
            key: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(),
        }
    }

    pub(crate) fn ec(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self {
            algorithm: Algorithm::ES256,
            id,
            key: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(),
        }
    }

    pub(crate) fn header(&self) -> Header {
        Header {
            kid: Some(self.id.to_owned()),
            ..Header::new(self.algorithm)
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.key).unwrap()
    }

    pub(crate) fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        jwk
    }
}

// An RSA key takes a while to make: one run of tests makes one.
static RSA: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::rsa("rsa"));
static EC: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::ec("ec"));

/// The cluster: an issuer with an RSA and an EC key, and a reviewer.
pub(crate) struct Cluster {
    pub(crate) rsa: &'static IssuerKey,
    pub(crate) ec: &'static IssuerKey,
    pub(crate) issuer: watch::Sender<WorkloadIssuer>,
    reviews: AtomicUsize,
    known: Mutex<HashMap<String, Result<ReviewedPod, ReviewError>>>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let (rsa, ec) = (&*RSA, &*EC);
        let issuer = watch::Sender::new(issuer([rsa, ec]));
        Self {
            rsa,
            ec,
            issuer,
            reviews: AtomicUsize::new(0),
            known: Mutex::default(),
        }
    }

    /// A token of the pod that the reviewer vouches for.
    pub(crate) fn token(&self, pod: &Pod) -> String {
        let token = self.rsa.sign(&pod.claims());
        self.vouch(&token, Ok(pod.reviewed()));
        token
    }

    /// What the reviewer will say of a token.
    pub(crate) fn vouch(&self, token: &str, answer: Result<ReviewedPod, ReviewError>) {
        self.known().insert(token.to_owned(), answer);
    }

    /// How often the reviewer was asked.
    pub(crate) fn reviews(&self) -> usize {
        self.reviews.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Result<ReviewedPod, ReviewError>>> {
        self.known.lock().unwrap()
    }
}

pub(crate) fn issuer<'a>(keys: impl IntoIterator<Item = &'a IssuerKey>) -> WorkloadIssuer {
    let keys = keys.into_iter().map(IssuerKey::jwk).collect();
    WorkloadIssuer {
        issuer: ISSUER.to_owned(),
        jwks: serde_json::to_string(&JwkSet { keys }).unwrap(),
    }
}

impl PodReviewer for Cluster {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReviewedPod, ReviewError>> {
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let answer = self.known().get(token).cloned();
        Box::pin(async { answer.unwrap_or(Err(ReviewError::Refused)) })
    }
}
