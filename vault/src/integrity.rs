//! Rows that are not what the vault wrote.
//!
//! Finding one denies what it would decide and nothing else: a failure is a
//! value that the finder handles, never a panic, and the rows beside it are read
//! as usual. Each is recorded once for each content found, so that a broken row
//! that is read a thousand times a second does not fill the disk, and a row that
//! is changed again is noticed again.
//!
//! The record outlives the repair. Rows that follow from a spec (users, their
//! workloads, tokens, their consumers) are written anew by the next reconcile,
//! never before the failure is on record; `users` and `tokens` say how. Versions
//! cannot be: their value is gone, and the source gives a new version. Tenants
//! and their keys cannot be either: only a backup brings them back.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bursar_seal::TenantId;
use prometheus_client::metrics::counter::Counter;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::rows::AuthenticatedRow;
use crate::vault::Vault;

/// Rows that this process found so, whoever looked: calls of brokers, controllers,
/// checkpoints. Each finding counts once, however often it is put on record.
static FOUND: LazyLock<Counter> = LazyLock::new(Counter::default);

/// How many were found since the process started.
pub(crate) fn found() -> Counter {
    FOUND.clone()
}

/// A row that is not what the vault wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{table} {row} of tenant {tenant} is not what Bursar wrote there: somebody changed the \
     database; it decides nothing until it is restored or written anew"
)]
pub struct IntegrityFailure {
    /// Whose row.
    pub tenant: TenantId,
    /// Its table.
    pub table: &'static str,
    /// Which row of it.
    pub row: String,
    /// SHA-256 of what was found there.
    found: [u8; 32],
}

impl IntegrityFailure {
    /// A row whose MAC does not fit.
    pub(crate) fn of<R: AuthenticatedRow>(row: &R) -> Self {
        let content = row.content();
        let parts = [
            content.as_bytes(),
            &row.key_version().to_be_bytes(),
            row.mac(),
        ];
        Self::new(row.tenant_id().into(), R::TABLE, row.row_key(), &parts)
    }

    /// What is missing or does not open; `found` is what lies there instead.
    pub(crate) fn new(tenant: TenantId, table: &'static str, row: String, found: &[&[u8]]) -> Self {
        FOUND.inc();
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in found {
            hash.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Self {
            tenant,
            table,
            row,
            found: digest,
        }
    }

    /// Records the failure unless it is on record. True when it is new.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn record(&self, connection: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
        let tenant: Uuid = self.tenant.as_uuid();
        let done = sqlx::query!(
            "insert into integrity_failure (tenant_id, table_name, row_key, found_digest)
             values ($1, $2, $3, $4) on conflict do nothing",
            tenant,
            self.table,
            self.row,
            &self.found[..],
        )
        .execute(connection)
        .await?;
        let new = done.rows_affected() > 0;
        if new {
            tracing::error!(tenant = %self.tenant, table = self.table, row = self.row, "{self}");
        }
        Ok(new)
    }
}

/// Records failures in a transaction of their own, so that they stay on record
/// whatever becomes of the write that found them.
pub(crate) async fn record_all(
    vault: &Vault,
    failures: &[IntegrityFailure],
) -> Result<(), sqlx::Error> {
    for failure in failures {
        failure.record(vault.pool()).await?;
    }
    Ok(())
}
