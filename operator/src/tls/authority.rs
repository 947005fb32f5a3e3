//! The certificate authority: one key, one certificate, and the leaves it signs. No I/O.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use zeroize::Zeroizing;

const COMMON_NAME: &str = "Bursar CA";
/// A CA is replaced by hand, so it has to last. Brokers trust its key, and do not ask for this date.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Short, because there is no list of revoked ones.
pub(crate) const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// A certificate is valid from a little before it is made: other machines' clocks differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Why there is no usable authority, or no certificate from it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key or certificate could not be made.
    #[error("cannot make a key or certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The stored key is not a private key in PEM.
    #[error("the CA's key is not a private key in PEM")]
    KeyNotPem,
    /// The stored certificate is not one.
    #[error("the CA's certificate is not a certificate in PEM")]
    CertificateNotPem,
    /// What the key signs is not trusted by the stored certificate.
    #[error(
        "the CA's certificate does not verify what its key signs: put the pair that belongs together back, or delete the Secret to have a new CA made (brokers then need a restart)"
    )]
    NotAPair,
    /// A certificate for such a name cannot be made or verified.
    #[error("the vault's name must be a DNS name")]
    Name,
    /// The TLS library refused a key or certificate of ours.
    #[error("TLS refuses the certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The key that signs, and the certificate that others trust.
// No Debug: it holds a private key.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

impl Authority {
    /// A new authority, valid for ten years from `now`.
    pub(crate) fn generate(now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = params(now).self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate: certificate.into(),
            issuer: Issuer::new(params(now), key),
        })
    }

    /// The authority that [`Self::certificate_pem`] and [`Self::key_pem`] were taken from.
    pub(crate) fn from_pem(
        certificate_pem: &str,
        key_pem: &str,
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key_pem).map_err(|_| AuthorityError::KeyNotPem)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| AuthorityError::CertificateNotPem)?;
        let authority = Self {
            // The subject is a constant and the key id follows from the key, so the certificate
            // need not be parsed; that it fits is tried below.
            issuer: Issuer::new(params(now), key),
            certificate,
            certificate_pem: certificate_pem.to_owned(),
        };
        authority.verify_a_leaf(now)?;
        Ok(authority)
    }

    /// The certificate, for whoever is to trust this authority.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key (PKCS #8).
    pub(crate) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// A new key and a certificate for `name`, valid for [`LEAF_LIFETIME`].
    pub(crate) fn issue(&self, name: &str, now: Timestamp) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(vec![name.to_owned()]).map_err(|_| AuthorityError::Name)?;
        set_validity(&mut params, now, LEAF_LIFETIME);
        params
            .distinguished_name
            .push(DnType::CommonName, "Bursar vault");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = aws_lc_rs::sign::any_ecdsa_type(&key)?;
        Ok(CertifiedKey::new(vec![certificate.into()], key))
    }

    fn verify_a_leaf(&self, now: Timestamp) -> Result<(), AuthorityError> {
        const NAME: &str = "vault.test";
        let leaf = self.issue(NAME, now)?;
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(|_| AuthorityError::NotAPair)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| AuthorityError::NotAPair)?;
        let name = ServerName::try_from(NAME).map_err(|_| AuthorityError::Name)?;
        verifier
            .verify_server_cert(leaf.end_entity_cert()?, &[], &name, &[], unix_time(now))
            .map_err(|_| AuthorityError::NotAPair)?;
        Ok(())
    }
}

fn params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params, now, CA_LIFETIME);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, COMMON_NAME);
    // It signs leaves and no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, lifetime: SignedDuration) {
    let since_1970 = |time: Timestamp| {
        date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_second().unsigned_abs())
    };
    params.not_before = since_1970(now - CLOCK_TOLERANCE);
    params.not_after = since_1970(now + lifetime);
}

fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{Authority, AuthorityError};

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn an_authority_comes_back_from_its_pem_and_its_leaves_verify() {
        let made = Authority::generate(now()).unwrap();
        let later = now() + SignedDuration::from_hours(24 * 365);
        let again = Authority::from_pem(made.certificate_pem(), &made.key_pem(), later).unwrap();
        assert_eq!(again.certificate_pem(), made.certificate_pem());
    }

    #[test]
    fn a_certificate_of_another_authority_is_refused() {
        let (one, other) = (
            Authority::generate(now()).unwrap(),
            Authority::generate(now()).unwrap(),
        );
        let refused = Authority::from_pem(one.certificate_pem(), &other.key_pem(), now());
        assert!(matches!(refused, Err(AuthorityError::NotAPair)));
    }

    #[test]
    fn what_is_not_pem_is_refused_without_being_quoted() {
        let made = Authority::generate(now()).unwrap();
        let key = Authority::from_pem(made.certificate_pem(), "planted", now())
            .err()
            .unwrap();
        let certificate = Authority::from_pem("planted", &made.key_pem(), now())
            .err()
            .unwrap();
        for error in [key, certificate] {
            assert!(!error.to_string().contains("planted"));
        }
    }
}
