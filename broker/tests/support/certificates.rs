//! A CA and the vault's certificate, for one test.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ResolvesServerCert, ResolvesServerCertUsingSni};
use rustls::sign::CertifiedKey;

/// The name in the certificate.
pub const VAULT_NAME: &str = "bursar-vault.bursar-system.svc";

pub struct Certificates {
    pub ca_pem: String,
    leaf: Arc<ResolvesServerCertUsingSni>,
}

impl Certificates {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([VAULT_NAME.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(vec![leaf.der().clone()], key, &provider).unwrap();
        let mut resolver = ResolvesServerCertUsingSni::new();
        resolver.add(VAULT_NAME, certified).unwrap();
        Self {
            ca_pem,
            leaf: Arc::new(resolver),
        }
    }

    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::clone(&self.leaf) as Arc<dyn ResolvesServerCert>
    }
}
