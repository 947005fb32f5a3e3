//! `tenant`: one life of one namespace.

use bursar_seal::{RowWriter, TenantKey};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authenticate, mac_columns};
use crate::db_time::DbTime;
use crate::names::{Namespace, NamespaceUid};

/// A row of `tenant` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct TenantRow {
    pub tenant_id: Uuid,
    pub shard: i16,
    pub cluster_id: String,
    pub namespace: String,
    pub namespace_uid: String,
    pub retired_time: Option<DbTime>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

impl TenantRow {
    /// With its MAC under `key`.
    pub(crate) fn authenticated(self, key: &TenantKey) -> Self {
        authenticate(self, key)
    }

    pub(crate) async fn by_id(
        connection: &mut PgConnection,
        tenant: Uuid,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, shard, cluster_id, namespace, namespace_uid,
                      retired_time as "retired_time: DbTime", key_version, mac
               from tenant where tenant_id = $1"#,
            tenant,
        )
        .fetch_optional(connection)
        .await
    }

    /// Others that write wait; readers, and rows that refer to it, do not.
    pub(crate) async fn lock(
        transaction: &mut PgConnection,
        tenant: Uuid,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, shard, cluster_id, namespace, namespace_uid,
                      retired_time as "retired_time: DbTime", key_version, mac
               from tenant where tenant_id = $1 for no key update"#,
            tenant,
        )
        .fetch_optional(transaction)
        .await
    }

    /// The row of a namespace's UID, and the live one of its name. By UID alone,
    /// so that a row whose cluster id was changed is found, too.
    pub(crate) async fn of_namespace(
        connection: &mut PgConnection,
        cluster_id: &str,
        namespace: &Namespace,
        uid: &NamespaceUid,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, shard, cluster_id, namespace, namespace_uid,
                      retired_time as "retired_time: DbTime", key_version, mac
               from tenant
               where namespace_uid = $3
                  or (cluster_id = $1 and namespace = $2 and retired_time is null)"#,
            cluster_id,
            namespace.as_str(),
            uid.as_str(),
        )
        .fetch_all(connection)
        .await
    }

    /// False when another tenant has its namespace.
    pub(crate) async fn insert(&self, transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let done = sqlx::query!(
            "insert into tenant
                 (tenant_id, shard, cluster_id, namespace, namespace_uid, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
            self.tenant_id,
            self.shard,
            self.cluster_id,
            self.namespace,
            self.namespace_uid,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn update(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update tenant set retired_time = $2, key_version = $3, mac = $4 where tenant_id = $1",
            self.tenant_id,
            self.retired_time as _,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }
}

impl AuthenticatedRow for TenantRow {
    const TABLE: &'static str = "tenant";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.tenant_id)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .i64(self.shard.into())
            .text(&self.cluster_id)
            .text(&self.namespace)
            .text(&self.namespace_uid)
            .opt_i64(self.retired_time.map(DbTime::micros))
    }
}
