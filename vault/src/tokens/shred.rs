//! Destroying the keys of deleted tokens when their time has come.
//!
//! A destroyed key is gone from the row at once. Postgres overwrites the old
//! row's place in its files at the next vacuum, and write-ahead logs and backups
//! keep it as long as they are kept: whoever has one of those and the root key
//! can still open the value.

use bursar_seal::TenantId;
use uuid::Uuid;

use crate::error::{DatabaseError, VaultError};
use crate::rows::VersionRow;
use crate::vault::Vault;

/// How many versions are shredded in one transaction at most.
const BATCH: i64 = 100;

impl Vault {
    /// Destroys the keys of versions whose time has come; any replica may do so
    /// at any time. Gives the number of versions shredded.
    ///
    /// # Errors
    /// When the database is away or lets nobody in. A tenant where anything else
    /// fails (its keys do not open, say) is logged and passed over: the others do
    /// not wait for it.
    pub async fn sweep_shred(&self) -> Result<u64, VaultError> {
        let tenants = sqlx::query_scalar!(
            "select distinct tenant_id from token_version where shred_time <= now()",
        )
        .fetch_all(self.pool())
        .await?;
        let mut shredded = 0;
        for tenant in tenants {
            match self.shred_tenant(tenant.into()).await {
                Ok(count) => shredded += count,
                Err(VaultError::Database(
                    error @ (DatabaseError::Unavailable(_) | DatabaseError::Access(_)),
                )) => return Err(error.into()),
                Err(error) => tracing::warn!(%tenant, "not shredded: {error}"),
            }
        }
        Ok(shredded)
    }

    /// A damaged version keeps its keys and goes on record: somebody else may have
    /// set its time, to destroy what is in use.
    async fn shred_tenant(&self, id: TenantId) -> Result<u64, VaultError> {
        let mut shredded = 0;
        let mut place = (Uuid::nil(), 0);
        loop {
            let transaction = self.begin().await?;
            let (mut transaction, _, tenant) = self.lock_any_tenant(transaction, id).await?;
            let due = VersionRow::due(&mut transaction, tenant.uuid(), place, BATCH).await?;
            let last = due.len() < BATCH as usize;
            for row in due {
                place = (row.token_id, row.version);
                match row.verify(tenant.keys()) {
                    Ok(version) => {
                        let row = version.into_shredded(tenant.keys());
                        row.update(&mut transaction).await?;
                        shredded += 1;
                    }
                    Err(failure) => {
                        failure.record(&mut *transaction).await?;
                    }
                }
            }
            transaction.commit().await?;
            if last {
                return Ok(shredded);
            }
        }
    }
}
