//! Tenant keys: wrapped by a root key, wrap what belongs to one tenant.

use aws_lc_rs::aead::LessSafeKey;

use crate::TenantId;
use crate::blob::{BlobError, WrappedKey};
use crate::fields::Fields;
use crate::key::{Key, LibraryError};
use crate::proof::ProofKey;
use crate::random::Random;
use crate::root::{RootKeyError, RootKeys};
use crate::row_mac::RowMac;
use crate::versions::{RootKeyVersion, TenantKeyVersion};

/// Why there is no tenant key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum TenantKeyError {
    /// The root key that wraps it is missing.
    #[error(transparent)]
    Root(#[from] RootKeyError),
    /// The wrapped key does not open.
    #[error(
        "version {version} of the key of tenant {tenant} does not open under root key version \
         {root}: {reason}; restore its row from a backup"
    )]
    Open {
        /// Whose key.
        tenant: TenantId,
        /// Which version of it.
        version: TenantKeyVersion,
        /// The root key it should open under.
        root: RootKeyVersion,
        /// What is wrong with the bytes.
        reason: BlobError,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// One version of a tenant's key.
///
/// The key itself is not kept: what wraps, and what authenticates rows and
/// incarnations, are derived from it (HKDF) under labels of their own that also
/// bind the tenant and the version.
pub struct TenantKey {
    tenant: TenantId,
    version: TenantKeyVersion,
    data_wrapping: LessSafeKey,
    secret_wrapping: LessSafeKey,
    row_mac: RowMac,
    proof: ProofKey,
}

impl TenantKey {
    fn from_key(
        tenant: TenantId,
        version: TenantKeyVersion,
        key: &Key,
    ) -> Result<Self, LibraryError> {
        let derive =
            |label| key.derive(&Fields::new(label).uuid(tenant.as_uuid()).u32(version.get()));
        Ok(Self {
            tenant,
            version,
            data_wrapping: derive("bursar tenant key: wrap data keys")?.to_aead()?,
            secret_wrapping: derive("bursar tenant key: wrap tenant secrets")?.to_aead()?,
            row_mac: RowMac::new(&derive("bursar tenant key: authenticate rows")?),
            proof: ProofKey::new(&derive("bursar tenant key: prove incarnations")?),
        })
    }

    /// Whose key this is.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Which version of the tenant's key this is.
    #[must_use]
    pub fn version(&self) -> TenantKeyVersion {
        self.version
    }

    /// What authenticates this tenant's rows. A row says the
    /// [version](Self::version) it was authenticated under.
    #[must_use]
    pub fn row_mac(&self) -> &RowMac {
        &self.row_mac
    }

    /// What wraps data keys.
    pub(crate) fn data_wrapping(&self) -> &LessSafeKey {
        &self.data_wrapping
    }

    /// What wraps tenant secrets.
    pub(crate) fn secret_wrapping(&self) -> &LessSafeKey {
        &self.secret_wrapping
    }

    /// What proves incarnations.
    pub(crate) fn proof_key(&self) -> &ProofKey {
        &self.proof
    }
}

/// Where a wrapped tenant key belongs. The tenant key version is one field more
/// than the design asks for: an older version's bytes put in the place of a
/// newer one's then do not open at all, instead of opening as the wrong key.
fn place(tenant: TenantId, version: TenantKeyVersion, root: RootKeyVersion) -> Fields {
    Fields::new("bursar tenant key")
        .u32(root.get())
        .uuid(tenant.as_uuid())
        .u32(version.get())
}

impl RootKeys {
    /// Makes a tenant key. The wrapped form is under [`newest`](Self::newest):
    /// store it with that version.
    ///
    /// # Errors
    /// [`TenantKeyError::Library`] when `random` fails.
    pub fn new_tenant_key(
        &self,
        tenant: TenantId,
        version: TenantKeyVersion,
        random: &dyn Random,
    ) -> Result<(TenantKey, WrappedKey), TenantKeyError> {
        let key = Key::generate(random).map_err(LibraryError::from)?;
        let wrapped = self.wrap(tenant, version, &key, random)?;
        Ok((TenantKey::from_key(tenant, version, &key)?, wrapped))
    }

    /// Opens a tenant key that was wrapped under version `root`.
    ///
    /// # Errors
    /// [`TenantKeyError::Root`] when that root key is missing,
    /// [`TenantKeyError::Open`] when the bytes are not this tenant's key of this
    /// version under that root key.
    pub fn open_tenant_key(
        &self,
        tenant: TenantId,
        version: TenantKeyVersion,
        root: RootKeyVersion,
        wrapped: &WrappedKey,
    ) -> Result<TenantKey, TenantKeyError> {
        let key = self.unwrap(tenant, version, root, wrapped)?;
        Ok(TenantKey::from_key(tenant, version, &key)?)
    }

    /// Wraps a tenant key anew under [`newest`](Self::newest); the key itself
    /// stays the same, so nothing below it changes.
    ///
    /// # Errors
    /// As [`open_tenant_key`](Self::open_tenant_key), and
    /// [`TenantKeyError::Library`] when `random` fails.
    pub fn rewrap_tenant_key(
        &self,
        tenant: TenantId,
        version: TenantKeyVersion,
        root: RootKeyVersion,
        wrapped: &WrappedKey,
        random: &dyn Random,
    ) -> Result<WrappedKey, TenantKeyError> {
        let key = self.unwrap(tenant, version, root, wrapped)?;
        self.wrap(tenant, version, &key, random)
    }

    fn wrap(
        &self,
        tenant: TenantId,
        version: TenantKeyVersion,
        key: &Key,
        random: &dyn Random,
    ) -> Result<WrappedKey, TenantKeyError> {
        let root = self.newest();
        let place = place(tenant, version, root);
        Ok(WrappedKey::seal(self.wrapping(root)?, &place, key, random)?)
    }

    fn unwrap(
        &self,
        tenant: TenantId,
        version: TenantKeyVersion,
        root: RootKeyVersion,
        wrapped: &WrappedKey,
    ) -> Result<Key, TenantKeyError> {
        wrapped
            .open(self.wrapping(root)?, &place(tenant, version, root))
            .map_err(|reason| TenantKeyError::Open {
                tenant,
                version,
                root,
                reason,
            })
    }
}
