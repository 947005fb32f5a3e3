//! Tenants: a namespace, for as long as it lives.

use std::sync::Arc;

use bursar_seal::{TenantId, TenantKeyVersion};
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use crate::changes;
use crate::controllers::Controllers;
use crate::db_time::db_now;
use crate::error::{KeyError, VaultError};
use crate::integrity::IntegrityFailure;
use crate::names::{Namespace, NamespaceUid};
use crate::rows::{AuthenticatedRow, QuotaSet, TenantRow, authentic};
use crate::tenant_keys::TenantKeys;
use crate::vault::Vault;

/// A verified tenant that was not retired when it was looked up.
#[derive(Clone)]
pub struct Tenant {
    id: TenantId,
    shard: i16,
    keys: Arc<TenantKeys>,
}

impl Tenant {
    /// The id that the vault gave it.
    #[must_use]
    pub const fn id(&self) -> TenantId {
        self.id
    }

    /// The same, as SQL takes it.
    pub(crate) const fn uuid(&self) -> Uuid {
        self.id.as_uuid()
    }

    /// Where its changes are numbered.
    #[must_use]
    pub const fn shard(&self) -> i16 {
        self.shard
    }

    /// Its keys, unwrapped.
    #[must_use]
    pub fn keys(&self) -> &TenantKeys {
        &self.keys
    }
}

impl Vault {
    /// The live tenant of a namespace; `None` when there is none yet, or when
    /// the namespace of that name is another one by now.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when a row or key of this namespace is not what
    /// the vault wrote (it is on record then); or when the database is away.
    pub async fn tenant_of(
        &self,
        namespace: &Namespace,
        uid: &NamespaceUid,
    ) -> Result<Option<Tenant>, VaultError> {
        let mut connection = self.pool().acquire().await?;
        let found = self.candidates(&mut connection, namespace, uid).await?;
        match found
            .into_iter()
            .find(|row| row.namespace_uid == uid.as_str())
        {
            Some(row) if row.retired_time.is_none() => {
                Ok(Some(self.tenant(&mut connection, &row).await?))
            }
            _ => Ok(None),
        }
    }

    /// The tenant of an id, unless it is retired or unknown.
    ///
    /// # Errors
    /// As [`Vault::tenant_of`].
    pub async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Tenant>, VaultError> {
        let mut connection = self.pool().acquire().await?;
        let row = TenantRow::by_id(&mut connection, id.as_uuid()).await?;
        match row {
            Some(row) => self.live_tenant(&mut connection, row).await,
            None => Ok(None),
        }
    }

    /// The tenant of a row that was read, unless it is retired.
    ///
    /// # Errors
    /// As [`Vault::tenant_of`].
    pub(crate) async fn live_tenant(
        &self,
        connection: &mut PgConnection,
        row: TenantRow,
    ) -> Result<Option<Tenant>, VaultError> {
        let row = self.verified(connection, row).await?;
        if row.retired_time.is_some() {
            return Ok(None);
        }
        Ok(Some(self.tenant(connection, &row).await?))
    }

    /// The keys of a tenant, retired or not; `None` when there is none of that id.
    ///
    /// # Errors
    /// As [`Vault::tenant_of`].
    pub(crate) async fn keys_by_id(
        &self,
        id: TenantId,
    ) -> Result<Option<Arc<TenantKeys>>, VaultError> {
        let mut connection = self.pool().acquire().await?;
        let Some(row) = TenantRow::by_id(&mut connection, id.as_uuid()).await? else {
            return Ok(None);
        };
        let row = self.verified(&mut connection, row).await?;
        Ok(Some(self.keys_of(&mut connection, &row).await?))
    }

    /// The rows that have something to say about a namespace, verified: the one
    /// of this UID, and a live one of this name. When one of the two is damaged
    /// and the UID is not among the others, it may be the one that was asked for.
    async fn candidates(
        &self,
        connection: &mut PgConnection,
        namespace: &Namespace,
        uid: &NamespaceUid,
    ) -> Result<Vec<TenantRow>, VaultError> {
        let rows = TenantRow::of_namespace(connection, self.cluster_id(), namespace, uid).await?;
        let mut found = Vec::new();
        let mut failed = None;
        for row in rows {
            match self.verified(connection, row).await {
                Ok(row) if row.cluster_id == self.cluster_id() => found.push(row),
                Ok(_) => {}
                Err(VaultError::Integrity(failure)) => failed = Some(failure),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(failure) if !found.iter().any(|row| row.namespace_uid == uid.as_str()) => {
                Err(failure.into())
            }
            _ => Ok(found),
        }
    }

    /// The row again if it is what the vault wrote; on record if not.
    ///
    /// Here and below all goes over the connection of the caller: whoever holds
    /// one and waits for another may wait for somebody who does the same.
    async fn verified(
        &self,
        connection: &mut PgConnection,
        row: TenantRow,
    ) -> Result<TenantRow, VaultError> {
        let keys = self.keys_of(connection, &row).await?;
        match authentic(row, &keys) {
            Ok(row) => Ok(row),
            Err(failure) => {
                failure.record(connection).await?;
                Err(failure.into())
            }
        }
    }

    async fn tenant(
        &self,
        connection: &mut PgConnection,
        row: &TenantRow,
    ) -> Result<Tenant, VaultError> {
        Ok(Tenant {
            id: row.tenant_id.into(),
            shard: row.shard,
            keys: self.keys_of(connection, row).await?,
        })
    }

    async fn keys_of(
        &self,
        connection: &mut PgConnection,
        row: &TenantRow,
    ) -> Result<Arc<TenantKeys>, VaultError> {
        let id = TenantId::from(row.tenant_id);
        if let Some(keys) = self
            .cached_keys(id)
            .filter(|keys| keys.of_version(row.key_version).is_some())
        {
            return Ok(keys);
        }
        let Ok(version) = TenantKeyVersion::try_from(row.key_version) else {
            let failure = IntegrityFailure::of(row);
            failure.record(connection).await?;
            return Err(failure.into());
        };
        let keys = Arc::new(TenantKeys::load(connection, self.roots(), id, version).await?);
        self.cache_keys(Arc::clone(&keys));
        Ok(keys)
    }

    /// Locks a live tenant for a write: others that write wait, so that the writes
    /// of a tenant happen one after another; readers and grants do not wait.
    /// Gives the transaction back, unless it failed.
    ///
    /// # Errors
    /// [`VaultError::TenantRetired`], and as [`Vault::tenant_of`].
    pub(crate) async fn lock_tenant(
        &self,
        transaction: Transaction<'static, Postgres>,
        id: TenantId,
    ) -> Result<(Transaction<'static, Postgres>, Tenant), VaultError> {
        let (transaction, row, tenant) = self.lock_any_tenant(transaction, id).await?;
        if row.retired_time.is_some() {
            return Err(VaultError::TenantRetired { tenant: id });
        }
        Ok((transaction, tenant))
    }

    /// As [`Vault::lock_tenant`], retired or not.
    pub(crate) async fn lock_any_tenant(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        id: TenantId,
    ) -> Result<(Transaction<'static, Postgres>, TenantRow, Tenant), VaultError> {
        match self.lock_row(&mut transaction, id).await {
            Ok((row, tenant)) => Ok((transaction, row, tenant)),
            Err(error) => {
                // What was recorded in the transaction is gone with it.
                transaction.rollback().await?;
                if let VaultError::Integrity(failure) = &error {
                    failure.record(self.pool()).await?;
                }
                Err(error)
            }
        }
    }

    async fn lock_row(
        &self,
        transaction: &mut PgConnection,
        id: TenantId,
    ) -> Result<(TenantRow, Tenant), VaultError> {
        let row = TenantRow::lock(transaction, id.as_uuid()).await?;
        let row =
            row.ok_or_else(|| IntegrityFailure::new(id, TenantRow::TABLE, id.to_string(), &[]))?;
        let row = self.verified(transaction, row).await?;
        let tenant = self.tenant(transaction, &row).await?;
        Ok((row, tenant))
    }
}

impl Controllers {
    /// The tenant of a namespace, made if it is new. A live tenant of the same
    /// name and another UID is a namespace that is gone: it is retired first, in
    /// a transaction of its own, and nothing is read from it again.
    ///
    /// # Errors
    /// [`VaultError::TenantRetired`] when this UID is the one that is gone;
    /// [`VaultError::TermSuperseded`]; and as [`Vault::tenant_of`].
    pub async fn ensure_tenant(
        &self,
        namespace: &Namespace,
        uid: &NamespaceUid,
    ) -> Result<Tenant, VaultError> {
        let vault = self.vault();
        loop {
            let mut connection = vault.pool().acquire().await?;
            self.term().check(&mut connection).await?;
            let found = vault.candidates(&mut connection, namespace, uid).await?;
            if let Some(row) = found.iter().find(|row| row.namespace_uid == uid.as_str()) {
                return match row.retired_time {
                    None => vault.tenant(&mut connection, row).await,
                    Some(_) => Err(VaultError::TenantRetired {
                        tenant: row.tenant_id.into(),
                    }),
                };
            }
            drop(connection);
            for gone in found {
                self.retire(gone.tenant_id.into()).await?;
            }
            // Two reconciles of a new namespace meet here: one inserts, the
            // other finds the row the next time round.
            if let Some(tenant) = self.create(namespace, uid).await? {
                return Ok(tenant);
            }
        }
    }

    async fn create(
        &self,
        namespace: &Namespace,
        uid: &NamespaceUid,
    ) -> Result<Option<Tenant>, VaultError> {
        let vault = self.vault();
        let id = TenantId::generate(vault.random()).map_err(KeyError::from)?;
        let (key, wrapped) = vault
            .roots()
            .new_tenant_key(id, TenantKeyVersion::FIRST, vault.random())
            .map_err(KeyError::from)?;
        let row = TenantRow {
            tenant_id: id.as_uuid(),
            shard: changes::shard_of(id),
            cluster_id: vault.cluster_id().to_owned(),
            namespace: namespace.to_string(),
            namespace_uid: uid.to_string(),
            retired_time: None,
            key_version: 0,
            mac: Vec::new(),
        }
        .authenticated(&key);

        let mut transaction = self.begin().await?;
        if !row.insert(&mut transaction).await? {
            return Ok(None);
        }
        let keys = TenantKeys::create(
            &mut transaction,
            vault.roots(),
            vault.random(),
            (key, wrapped),
        )
        .await?;
        QuotaSet::empty()
            .to_row(&keys)
            .write(&mut transaction)
            .await?;
        transaction.commit().await?;

        let keys = Arc::new(keys);
        vault.cache_keys(Arc::clone(&keys));
        Ok(Some(Tenant {
            id,
            shard: row.shard,
            keys,
        }))
    }

    async fn retire(&self, id: TenantId) -> Result<(), VaultError> {
        let vault = self.vault();
        let (mut transaction, mut row, tenant) =
            vault.lock_any_tenant(self.begin().await?, id).await?;
        if row.retired_time.is_some() {
            return Ok(());
        }
        row.retired_time = Some(db_now(&mut transaction).await?);
        row.authenticated(tenant.keys().newest())
            .update(&mut transaction)
            .await?;

        let recalls = changes::recall_all(&mut transaction, id).await?;
        changes::append(&mut transaction, tenant.shard(), id, &recalls).await?;
        transaction.commit().await?;
        Ok(())
    }
}
