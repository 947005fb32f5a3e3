//! Tenant secrets: random keys of one tenant that outlive its tenant key.
//!
//! They are wrapped by the tenant key and have versions of their own, so that
//! rotating the tenant key never changes a fingerprint or an audit chain.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;

use crate::TenantId;
use crate::blob::{BlobError, WrappedKey};
use crate::fields::Fields;
use crate::key::{Key, LibraryError, hmac_sha256};
use crate::random::Random;
use crate::row_mac::{RowMacError, RowWriter};
use crate::tenant::TenantKey;
use crate::versions::{SecretVersion, TenantKeyVersion};

/// Why there is no tenant secret.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum TenantSecretError {
    /// The wrapped key does not open.
    #[error(
        "version {version} of the {purpose} key of tenant {tenant} does not open under tenant key \
         version {tenant_key}: {reason}; restore its row from a backup"
    )]
    Open {
        /// Whose key.
        tenant: TenantId,
        /// What for.
        purpose: KeyPurpose,
        /// Which version of it.
        version: SecretVersion,
        /// The tenant key it should open under.
        tenant_key: TenantKeyVersion,
        /// What is wrong with the bytes.
        reason: BlobError,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// What a tenant secret is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KeyPurpose {
    /// Recognising a value without keeping it: [`FingerprintKey`].
    Fingerprint,
    /// Chaining the audit records: [`AuditKey`].
    Audit,
}

impl KeyPurpose {
    /// The name under which it is stored and bound.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stored purpose that this release does not know.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key purpose is fingerprint or audit")]
pub struct KeyPurposeError;

impl FromStr for KeyPurpose {
    type Err = KeyPurposeError;

    fn from_str(text: &str) -> Result<Self, KeyPurposeError> {
        [Self::Fingerprint, Self::Audit]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or(KeyPurposeError)
    }
}

/// The key under which a tenant's token values are recognised.
pub struct FingerprintKey {
    version: SecretVersion,
    key: hmac::Key,
}

impl FingerprintKey {
    /// The version to store beside each fingerprint.
    #[must_use]
    pub fn version(&self) -> SecretVersion {
        self.version
    }

    /// The fingerprint of a value (HMAC-SHA256). Equal values of one tenant have
    /// equal fingerprints under one version; without the key a fingerprint says
    /// nothing about the value, however easy that is to guess.
    #[must_use]
    pub fn fingerprint(&self, plaintext: &[u8]) -> Fingerprint {
        Fingerprint(hmac_sha256(&self.key, plaintext))
    }
}

/// A keyed hash of a token's value. Not secret.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(stored: [u8; 32]) -> Self {
        Self(stored)
    }
}

/// The key that chains a tenant's audit records.
pub struct AuditKey {
    version: SecretVersion,
    key: hmac::Key,
}

impl AuditKey {
    /// The version to store beside each record.
    #[must_use]
    pub fn version(&self) -> SecretVersion {
        self.version
    }

    /// The MAC of a record (HMAC-SHA256) that follows the record whose MAC is
    /// `previous`; the first follows 32 zeros.
    #[must_use]
    pub fn mac(&self, previous: &[u8; 32], record: &RowWriter) -> [u8; 32] {
        let message = Fields::new("bursar audit record")
            .bytes(previous)
            .bytes(record.as_bytes());
        hmac_sha256(&self.key, message.as_bytes())
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`RowMacError::Mismatch`] when the record, the one before it or their
    /// order was changed.
    pub fn verify(
        &self,
        previous: &[u8; 32],
        record: &RowWriter,
        mac: &[u8],
    ) -> Result<(), RowMacError> {
        verify_slices_are_equal(&self.mac(previous, record), mac).map_err(|_| record.mismatch())
    }
}

fn place(tenant_key: TenantKeyVersion, purpose: KeyPurpose, version: SecretVersion) -> Fields {
    Fields::new("bursar tenant secret")
        .u32(tenant_key.get())
        .text(purpose.as_str())
        .u32(version.get())
}

impl TenantKey {
    /// Makes a fingerprint key.
    ///
    /// # Errors
    /// [`TenantSecretError::Library`] when `random` fails.
    pub fn new_fingerprint_key(
        &self,
        version: SecretVersion,
        random: &dyn Random,
    ) -> Result<(FingerprintKey, WrappedKey), TenantSecretError> {
        let (key, wrapped) = self.new_secret(KeyPurpose::Fingerprint, version, random)?;
        Ok((FingerprintKey { version, key }, wrapped))
    }

    /// Opens a fingerprint key.
    ///
    /// # Errors
    /// [`TenantSecretError::Open`] when the bytes are not this version of this
    /// tenant's fingerprint key under this version of the tenant key.
    pub fn open_fingerprint_key(
        &self,
        version: SecretVersion,
        wrapped: &WrappedKey,
    ) -> Result<FingerprintKey, TenantSecretError> {
        let key = self.open_secret(KeyPurpose::Fingerprint, version, wrapped)?;
        Ok(FingerprintKey { version, key })
    }

    /// Makes an audit key.
    ///
    /// # Errors
    /// [`TenantSecretError::Library`] when `random` fails.
    pub fn new_audit_key(
        &self,
        version: SecretVersion,
        random: &dyn Random,
    ) -> Result<(AuditKey, WrappedKey), TenantSecretError> {
        let (key, wrapped) = self.new_secret(KeyPurpose::Audit, version, random)?;
        Ok((AuditKey { version, key }, wrapped))
    }

    /// Opens an audit key.
    ///
    /// # Errors
    /// [`TenantSecretError::Open`] when the bytes are not this version of this
    /// tenant's audit key under this version of the tenant key.
    pub fn open_audit_key(
        &self,
        version: SecretVersion,
        wrapped: &WrappedKey,
    ) -> Result<AuditKey, TenantSecretError> {
        let key = self.open_secret(KeyPurpose::Audit, version, wrapped)?;
        Ok(AuditKey { version, key })
    }

    fn new_secret(
        &self,
        purpose: KeyPurpose,
        version: SecretVersion,
        random: &dyn Random,
    ) -> Result<(hmac::Key, WrappedKey), LibraryError> {
        let key = Key::generate(random)?;
        let place = place(self.version(), purpose, version);
        let wrapped = WrappedKey::seal(self.secret_wrapping(), &place, &key, random)?;
        Ok((key.to_hmac(), wrapped))
    }

    fn open_secret(
        &self,
        purpose: KeyPurpose,
        version: SecretVersion,
        wrapped: &WrappedKey,
    ) -> Result<hmac::Key, TenantSecretError> {
        let tenant_key = self.version();
        wrapped
            .open(self.secret_wrapping(), &place(tenant_key, purpose, version))
            .map(|key| key.to_hmac())
            .map_err(|reason| TenantSecretError::Open {
                tenant: self.tenant(),
                purpose,
                version,
                tenant_key,
                reason,
            })
    }
}
