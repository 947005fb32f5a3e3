//! `quota_set`: which quotas a tenant has.
//!
//! A row that is taken away must not give more. So there is a list of all of
//! them, and the list is there from the tenant's first moment.

use bursar_seal::RowWriter;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns};
use crate::integrity::IntegrityFailure;
use crate::names::QuotaId;
use crate::tenant_keys::TenantKeys;

/// A row of `quota_set` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct QuotaSetRow {
    pub tenant_id: Uuid,
    pub quota_ids: Vec<Uuid>,
    pub epoch: i64,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaSet {
    /// In order.
    pub ids: Vec<QuotaId>,
    /// Raised when a quota comes or becomes stricter.
    pub epoch: i64,
}

impl QuotaSet {
    /// That of a tenant without quotas.
    pub(crate) const fn empty() -> Self {
        Self {
            ids: Vec::new(),
            epoch: 1,
        }
    }

    pub(crate) fn to_row(&self, keys: &TenantKeys) -> QuotaSetRow {
        let row = QuotaSetRow {
            tenant_id: keys.tenant().as_uuid(),
            quota_ids: self.ids.iter().map(|id| id.as_uuid()).collect(),
            epoch: self.epoch,
            key_version: 0,
            mac: Vec::new(),
        };
        authenticate(row, keys.newest())
    }
}

impl QuotaSetRow {
    /// The set, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<QuotaSet, IntegrityFailure> {
        let row = authentic(self, keys)?;
        Ok(QuotaSet {
            ids: row.quota_ids.into_iter().map(QuotaId::from).collect(),
            epoch: row.epoch,
        })
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into quota_set (tenant_id, quota_ids, epoch, key_version, mac)
             values ($1, $2, $3, $4, $5)
             on conflict (tenant_id) do update set
                 quota_ids = excluded.quota_ids, epoch = excluded.epoch,
                 key_version = excluded.key_version, mac = excluded.mac",
            self.tenant_id,
            &self.quota_ids,
            self.epoch,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }
}

impl AuthenticatedRow for QuotaSetRow {
    const TABLE: &'static str = "quota_set";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.tenant_id)
    }

    fn content(&self) -> RowWriter {
        let ids: Vec<String> = self.quota_ids.iter().map(Uuid::to_string).collect();
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .texts(&ids)
            .i64(self.epoch)
    }
}
