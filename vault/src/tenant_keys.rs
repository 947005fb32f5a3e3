//! The keys of one tenant, unwrapped.

use std::collections::BTreeMap;

use bursar_seal::{
    AuditKey, FingerprintKey, KeyPurpose, Random, RootKeys, SecretVersion, TenantId, TenantKey,
    TenantKeyError, TenantKeyVersion, TenantSecretError, WrappedKey,
};
use sqlx::PgConnection;
use tokio::sync::OnceCell;

use crate::error::{KeyError, VaultError};
use crate::integrity::IntegrityFailure;

/// All versions of a tenant's key that open, and the keys of its fingerprints and
/// its audit once somebody asked for them. A version never changes, so this is kept for as
/// long as the process runs.
pub struct TenantKeys {
    tenant: TenantId,
    newest: TenantKeyVersion,
    keys: BTreeMap<TenantKeyVersion, TenantKey>,
    fingerprint: OnceCell<FingerprintKey>,
    audit: OnceCell<AuditKey>,
}

impl TenantKeys {
    /// Whose keys these are.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The key for new rows.
    #[must_use]
    pub fn newest(&self) -> &TenantKey {
        // Every constructor puts the newest version in.
        &self.keys[&self.newest]
    }

    /// The key of the version that a row names, unless there is none or it does
    /// not open.
    #[must_use]
    pub fn of_version(&self, version: i32) -> Option<&TenantKey> {
        self.keys.get(&version.try_into().ok()?)
    }

    /// The keys of all versions that open.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TenantKey> {
        self.keys.values()
    }

    /// Makes the keys of a new tenant and writes them, wrapped. Its row in
    /// `tenant` must be there already.
    pub(crate) async fn create(
        connection: &mut PgConnection,
        roots: &RootKeys,
        random: &dyn Random,
        key: (TenantKey, WrappedKey),
    ) -> Result<Self, VaultError> {
        let (key, wrapped) = key;
        let (tenant, version) = (key.tenant(), key.version());
        sqlx::query!(
            "insert into tenant_key (tenant_id, key_version, root_version, wrapped_key)
             values ($1, $2, $3, $4)",
            tenant.as_uuid(),
            i32::from(version),
            i32::from(roots.newest()),
            wrapped.as_bytes(),
        )
        .execute(&mut *connection)
        .await?;

        let (fingerprint, wrapped) = key
            .new_fingerprint_key(SecretVersion::FIRST, random)
            .map_err(KeyError::from)?;
        store_secret(connection, &key, KeyPurpose::Fingerprint, &wrapped).await?;
        let (audit, wrapped) = key
            .new_audit_key(SecretVersion::FIRST, random)
            .map_err(KeyError::from)?;
        store_secret(connection, &key, KeyPurpose::Audit, &wrapped).await?;

        Ok(Self {
            tenant,
            newest: version,
            keys: BTreeMap::from([(version, key)]),
            fingerprint: OnceCell::new_with(Some(fingerprint)),
            audit: OnceCell::new_with(Some(audit)),
        })
    }

    /// Unwraps all versions. One that does not open is recorded and left out;
    /// the rows under it then do not verify.
    ///
    /// # Errors
    /// When the newest does not open, or the database is away.
    pub(crate) async fn load(
        connection: &mut PgConnection,
        roots: &RootKeys,
        tenant: TenantId,
        newest: TenantKeyVersion,
    ) -> Result<Self, VaultError> {
        let rows = sqlx::query!(
            "select key_version, root_version, wrapped_key from tenant_key where tenant_id = $1",
            tenant.as_uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;

        let mut keys = BTreeMap::new();
        let mut damaged = Vec::new();
        for row in rows {
            let failure = || {
                let found = [&row.root_version.to_be_bytes()[..], &row.wrapped_key];
                let place = format!("{tenant}/{}", row.key_version);
                IntegrityFailure::new(tenant, "tenant_key", place, &found)
            };
            let versions = (row.key_version.try_into(), row.root_version.try_into());
            let (Ok(version), Ok(root)) = versions else {
                damaged.push(failure());
                continue;
            };
            let wrapped = WrappedKey::from(row.wrapped_key.clone());
            match roots.open_tenant_key(tenant, version, root, &wrapped) {
                Ok(key) => drop(keys.insert(version, key)),
                Err(TenantKeyError::Open { .. }) => damaged.push(failure()),
                // A root key that this process was not given, or the library.
                Err(error) => return Err(KeyError::from(error).into()),
            }
        }
        if damaged.is_empty() && !keys.contains_key(&newest) {
            let place = format!("{tenant}/{newest}");
            damaged.push(IntegrityFailure::new(tenant, "tenant_key", place, &[]));
        }
        for failure in &damaged {
            failure.record(&mut *connection).await?;
        }
        match damaged.pop() {
            Some(failure) if !keys.contains_key(&newest) => Err(failure.into()),
            _ => Ok(Self {
                tenant,
                newest,
                keys,
                fingerprint: OnceCell::new(),
                audit: OnceCell::new(),
            }),
        }
    }

    /// The key under which the tenant's values are recognised.
    ///
    /// # Errors
    /// When it does not open, or the database is away.
    pub(crate) async fn fingerprint_key(
        &self,
        connection: &mut PgConnection,
    ) -> Result<&FingerprintKey, VaultError> {
        self.fingerprint
            .get_or_try_init(|| self.load_fingerprint_key(connection))
            .await
    }

    async fn load_fingerprint_key(
        &self,
        connection: &mut PgConnection,
    ) -> Result<FingerprintKey, VaultError> {
        self.load_secret(
            connection,
            KeyPurpose::Fingerprint,
            TenantKey::open_fingerprint_key,
        )
        .await
    }

    /// The key that chains the tenant's audit records.
    ///
    /// # Errors
    /// As [`Self::fingerprint_key`].
    pub(crate) async fn audit_key(
        &self,
        connection: &mut PgConnection,
    ) -> Result<&AuditKey, VaultError> {
        self.audit
            .get_or_try_init(|| {
                self.load_secret(connection, KeyPurpose::Audit, TenantKey::open_audit_key)
            })
            .await
    }

    async fn load_secret<T>(
        &self,
        connection: &mut PgConnection,
        purpose: KeyPurpose,
        open: fn(&TenantKey, SecretVersion, &WrappedKey) -> Result<T, TenantSecretError>,
    ) -> Result<T, VaultError> {
        let row = sqlx::query!(
            "select secret_version, key_version, wrapped_key from tenant_secret
             where tenant_id = $1 and purpose = $2 order by secret_version desc limit 1",
            self.tenant.as_uuid(),
            purpose.as_str(),
        )
        .fetch_optional(connection)
        .await?;
        let failure = |found: &[&[u8]]| {
            IntegrityFailure::new(
                self.tenant,
                "tenant_secret",
                format!("{}/{purpose}", self.tenant),
                found,
            )
        };
        let Some(row) = row else {
            return Err(failure(&[]).into());
        };
        let changed = || {
            failure(&[
                &row.secret_version.to_be_bytes(),
                &row.key_version.to_be_bytes(),
                &row.wrapped_key,
            ])
        };
        let key = self.of_version(row.key_version).ok_or_else(changed)?;
        let version = row.secret_version.try_into().map_err(|_| changed())?;
        match open(key, version, &WrappedKey::from(row.wrapped_key.clone())) {
            Ok(key) => Ok(key),
            Err(TenantSecretError::Open { .. }) => Err(changed().into()),
            Err(error) => Err(KeyError::from(error).into()),
        }
    }
}

/// Writes the first version of a tenant secret.
async fn store_secret(
    connection: &mut PgConnection,
    key: &TenantKey,
    purpose: KeyPurpose,
    wrapped: &WrappedKey,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into tenant_secret (tenant_id, purpose, secret_version, key_version, wrapped_key)
         values ($1, $2, $3, $4, $5)",
        key.tenant().as_uuid(),
        purpose.as_str(),
        i32::from(SecretVersion::FIRST),
        i32::from(key.version()),
        wrapped.as_bytes(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
impl TenantKeys {
    /// The keys of some tenant.
    pub(crate) fn for_tests() -> Self {
        use bursar_seal::{RootKey, RootKeyVersion, SystemRandom};

        let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
        let tenant = TenantId::generate(&SystemRandom).unwrap();
        let newest = TenantKeyVersion::FIRST;
        let (key, _) = RootKeys::new([root])
            .unwrap()
            .new_tenant_key(tenant, newest, &SystemRandom)
            .unwrap();
        Self {
            tenant,
            newest,
            keys: BTreeMap::from([(newest, key)]),
            fingerprint: OnceCell::new(),
            audit: OnceCell::new(),
        }
    }
}
