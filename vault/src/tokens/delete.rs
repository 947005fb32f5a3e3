//! The end of a token.

use std::time::Duration;

use bursar_seal::TokenId;
use sqlx::PgConnection;

use crate::changes::{self, Change};
use crate::controllers::Controllers;
use crate::db_time::db_now;
use crate::error::VaultError;
use crate::rows::{ConsumerRow, DeletionPolicy, TokenRow, VersionRow};
use crate::tenant::Tenant;

/// How long the keys of a deleted token are kept under `Retain`.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

impl Controllers {
    /// Ends a token: dead at once; its keys are destroyed now (`Shred`) or in
    /// seven days (`Retain`). Without a policy the one that was stored holds, and
    /// `Retain` where no row to be believed has one: retained keys can still be
    /// destroyed. Nothing happens when the token is gone already.
    ///
    /// # Errors
    /// [`VaultError::TermSuperseded`], [`VaultError::TenantRetired`],
    /// [`VaultError::Integrity`] for the tenant's own row, or the database.
    pub async fn delete_token(
        &self,
        tenant: &Tenant,
        id: TokenId,
        policy: Option<DeletionPolicy>,
    ) -> Result<(), VaultError> {
        let mut snapshot = self.snapshot().await?;
        let row = TokenRow::by_id(&mut snapshot, tenant.uuid(), id).await?;
        snapshot.commit().await?;
        if row.is_none() {
            return Ok(());
        }

        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let Some(row) = TokenRow::by_id(&mut transaction, tenant.uuid(), id).await? else {
            return Ok(());
        };
        let stored = || row.clone().verify(tenant.keys()).ok();
        let policy = policy
            .or_else(|| stored().map(|token| token.deletion_policy))
            .unwrap_or(DeletionPolicy::Retain);
        let changes = end_token(&mut transaction, tenant, row, policy).await?;
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Deletes a token, damaged or not: this only denies. Its damaged versions go on
/// record. Gives what its brokers must hear.
pub(super) async fn end_token(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    row: TokenRow,
    policy: DeletionPolicy,
) -> Result<Vec<Change>, VaultError> {
    let id = TokenId::from(row.token_id);
    let was_live = row.deleted_time.is_none();
    let now = db_now(transaction).await?;
    if was_live {
        row.into_deleted(now, tenant.keys())
            .write(transaction)
            .await?;
        ConsumerRow::delete_all(transaction, tenant.uuid(), id).await?;
    }
    let numbers = sqlx::query_scalar!(
        "select version from token_version
         where tenant_id = $1 and token_id = $2 and state <> 'Shredded' order by version",
        tenant.uuid(),
        id.as_uuid(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    for number in numbers {
        let Some(row) = VersionRow::by_number(transaction, tenant.uuid(), id, number).await? else {
            continue;
        };
        let verified = row.clone().verify(tenant.keys());
        if let Err(failure) = &verified {
            failure.record(&mut *transaction).await?;
        }
        let ended = match (verified, policy) {
            // A second deletion does not prolong the time.
            (Ok(version), DeletionPolicy::Retain) if version.shred_time.is_some() => continue,
            (Ok(version), DeletionPolicy::Retain) => {
                version.into_dead(Some(now.after(RETENTION)), tenant.keys())
            }
            (Ok(version), DeletionPolicy::Shred) => version.into_shredded(tenant.keys()),
            // Never served, and no MAC of ours may say when its keys go: it stays
            // as it was found until a person restores it or deletes with `Shred`.
            (Err(_), DeletionPolicy::Retain) => continue,
            // That decides the deletion, and nothing in the row.
            (Err(_), DeletionPolicy::Shred) => row.without_keys(),
        };
        ended.update(transaction).await?;
    }
    Ok(if was_live {
        vec![Change::Recall(id)]
    } else {
        Vec::new()
    })
}
