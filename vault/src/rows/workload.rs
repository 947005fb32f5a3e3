//! `workload`: a service account that may act as a user.

use bursar_seal::RowWriter;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns};
use crate::integrity::IntegrityFailure;
use crate::names::{ServiceAccountName, UserUid};
use crate::tenant_keys::TenantKeys;

/// The one kind of access there is: without the user's session.
const ALWAYS: &str = "Always";

/// A row of `workload` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct WorkloadRow {
    pub tenant_id: Uuid,
    pub user_uid: Uuid,
    pub service_account_name: String,
    pub access: String,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified workload, which may always act as its user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workload {
    /// As whom it may act.
    pub user_uid: UserUid,
    /// Matched by name, as RBAC does.
    pub service_account_name: ServiceAccountName,
}

impl Workload {
    pub(crate) fn to_row(&self, keys: &TenantKeys) -> WorkloadRow {
        let row = WorkloadRow {
            tenant_id: keys.tenant().as_uuid(),
            user_uid: self.user_uid.as_uuid(),
            service_account_name: self.service_account_name.to_string(),
            access: ALWAYS.to_owned(),
            key_version: 0,
            mac: Vec::new(),
        };
        authenticate(row, keys.newest())
    }
}

impl WorkloadRow {
    /// The workload, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Workload, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    /// All workloads of a user, so that a row whose service account was changed
    /// is found, too.
    pub(crate) async fn of_user(
        connection: &mut PgConnection,
        tenant: Uuid,
        user: UserUid,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select tenant_id, user_uid, service_account_name, access, key_version, mac
             from workload where tenant_id = $1 and user_uid = $2 order by service_account_name",
            tenant,
            user.as_uuid(),
        )
        .fetch_all(connection)
        .await
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into workload
                 (tenant_id, user_uid, service_account_name, access, key_version, mac)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (tenant_id, user_uid, service_account_name) do update set
                 access = excluded.access, key_version = excluded.key_version, mac = excluded.mac",
            self.tenant_id,
            self.user_uid,
            self.service_account_name,
            self.access,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    pub(crate) async fn delete(
        transaction: &mut PgConnection,
        tenant: Uuid,
        user: UserUid,
        service_account_name: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "delete from workload
             where tenant_id = $1 and user_uid = $2 and service_account_name = $3",
            tenant,
            user.as_uuid(),
            service_account_name,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    pub(crate) async fn delete_all(
        transaction: &mut PgConnection,
        tenant: Uuid,
        user: UserUid,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "delete from workload where tenant_id = $1 and user_uid = $2",
            tenant,
            user.as_uuid(),
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    fn parse(&self) -> Option<Workload> {
        (self.access == ALWAYS).then_some(())?;
        Some(Workload {
            user_uid: self.user_uid.into(),
            service_account_name: self.service_account_name.parse().ok()?,
        })
    }
}

impl AuthenticatedRow for WorkloadRow {
    const TABLE: &'static str = "workload";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}/{}", self.user_uid, self.service_account_name)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.user_uid)
            .text(&self.service_account_name)
            .text(&self.access)
    }
}
