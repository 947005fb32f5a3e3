//! `consumer`: a service account that may read a narrowed token.

use bursar_seal::{RowWriter, TokenId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns};
use crate::integrity::IntegrityFailure;
use crate::names::{Purpose, ServiceAccountName};
use crate::tenant_keys::TenantKeys;

/// A row of `consumer` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct ConsumerRow {
    pub tenant_id: Uuid,
    pub token_id: Uuid,
    pub service_account_name: String,
    pub purposes: Option<Vec<String>>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified consumer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Consumer {
    /// Matched by name, as RBAC does.
    pub service_account_name: ServiceAccountName,
    /// What for, sorted and each once; `None` for any purpose.
    pub purposes: Option<Vec<Purpose>>,
}

impl Consumer {
    /// A consumer with its purposes in normal form.
    #[must_use]
    pub fn new(service_account_name: ServiceAccountName, purposes: Option<Vec<Purpose>>) -> Self {
        let purposes = purposes.map(|mut purposes| {
            purposes.sort();
            purposes.dedup();
            purposes
        });
        Self {
            service_account_name,
            purposes,
        }
    }

    pub(crate) fn to_row(&self, token: TokenId, keys: &TenantKeys) -> ConsumerRow {
        let row = ConsumerRow {
            tenant_id: keys.tenant().as_uuid(),
            token_id: token.as_uuid(),
            service_account_name: self.service_account_name.to_string(),
            purposes: self
                .purposes
                .as_ref()
                .map(|purposes| purposes.iter().map(Purpose::to_string).collect()),
            key_version: 0,
            mac: Vec::new(),
        };
        authenticate(row, keys.newest())
    }
}

impl ConsumerRow {
    /// The consumer, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Consumer, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    /// All consumers of a token, so that a row whose service account was changed
    /// is found, too.
    pub(crate) async fn of_token(
        connection: &mut PgConnection,
        tenant: Uuid,
        token: TokenId,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            "select tenant_id, token_id, service_account_name, purposes, key_version, mac
             from consumer where tenant_id = $1 and token_id = $2 order by service_account_name",
            tenant,
            token.as_uuid(),
        )
        .fetch_all(connection)
        .await
    }

    /// The consumers of some tokens.
    pub(crate) async fn of_tokens(
        connection: &mut PgConnection,
        tenant: Uuid,
        tokens: &[Uuid],
    ) -> Result<Vec<Self>, sqlx::Error> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query_as!(
            Self,
            "select tenant_id, token_id, service_account_name, purposes, key_version, mac
             from consumer where tenant_id = $1 and token_id = any($2)",
            tenant,
            tokens,
        )
        .fetch_all(connection)
        .await
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into consumer
                 (tenant_id, token_id, service_account_name, purposes, key_version, mac)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (tenant_id, token_id, service_account_name) do update set
                 purposes = excluded.purposes, key_version = excluded.key_version,
                 mac = excluded.mac",
            self.tenant_id,
            self.token_id,
            self.service_account_name,
            self.purposes.as_deref(),
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
        token: TokenId,
        service_account_name: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "delete from consumer
             where tenant_id = $1 and token_id = $2 and service_account_name = $3",
            tenant,
            token.as_uuid(),
            service_account_name,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    pub(crate) async fn delete_all(
        transaction: &mut PgConnection,
        tenant: Uuid,
        token: TokenId,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "delete from consumer where tenant_id = $1 and token_id = $2",
            tenant,
            token.as_uuid(),
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    fn parse(&self) -> Option<Consumer> {
        let purposes = match &self.purposes {
            Some(purposes) => Some(
                purposes
                    .iter()
                    .map(|text| text.parse().ok())
                    .collect::<Option<Vec<_>>>()?,
            ),
            None => None,
        };
        Some(Consumer::new(
            self.service_account_name.parse().ok()?,
            purposes,
        ))
    }
}

impl AuthenticatedRow for ConsumerRow {
    const TABLE: &'static str = "consumer";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}/{}", self.token_id, self.service_account_name)
    }

    fn content(&self) -> RowWriter {
        let row = RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.token_id)
            .text(&self.service_account_name)
            .bool(self.purposes.is_some());
        row.texts(self.purposes.as_deref().unwrap_or_default())
    }
}
