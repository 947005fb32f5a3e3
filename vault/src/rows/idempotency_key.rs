//! `idempotency_key`: what was answered to a consumption or release of units, so
//! that one that is sent again is not counted again.

use bursar_seal::RowWriter;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns, text_enum};
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::{Counter, IdempotencyKey, ServiceAccountName, UserUid};
use crate::tenant_keys::TenantKeys;

text_enum! {
    /// What is done with units.
    Operation {
        /// They are taken.
        Consume,
        /// They are given back.
        Release,
    }
}

/// A row of `idempotency_key` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct IdempotencyKeyRow {
    pub tenant_id: Uuid,
    pub user_uid: Uuid,
    pub service_account_name: String,
    pub counter: String,
    pub idempotency_key: String,
    pub operation: String,
    pub amount: i64,
    pub counted_time: DbTime,
    pub answer: Vec<u8>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// Which request it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Counting {
    pub(crate) user: UserUid,
    pub(crate) service_account: ServiceAccountName,
    pub(crate) counter: Counter,
    pub(crate) key: IdempotencyKey,
    pub(crate) operation: Operation,
    pub(crate) amount: i64,
}

/// What became of the attempt to be the first with a key.
pub(crate) enum Claim {
    /// It is ours; nobody else is answered before this transaction ends.
    First(DbTime),
    /// It was answered before. Nothing of the row may be believed yet.
    Taken(IdempotencyKeyRow),
}

impl Counting {
    /// Waits for whoever has the same key just now.
    pub(crate) async fn claim(
        &self,
        transaction: &mut PgConnection,
        keys: &TenantKeys,
    ) -> Result<Claim, sqlx::Error> {
        loop {
            let first = sqlx::query_scalar!(
                r#"insert into idempotency_key
                       (tenant_id, user_uid, service_account_name, counter, idempotency_key,
                        operation, amount, key_version)
                   values ($1, $2, $3, $4, $5, $6, $7, $8)
                   on conflict do nothing
                   returning counted_time as "counted_time: DbTime""#,
                keys.tenant().as_uuid(),
                self.user.as_uuid(),
                self.service_account.as_str(),
                self.counter.as_str(),
                self.key.as_str(),
                self.operation.as_str(),
                self.amount,
                i32::from(keys.newest().version()),
            )
            .fetch_optional(&mut *transaction)
            .await?;
            if let Some(counted_time) = first {
                return Ok(Claim::First(counted_time));
            }
            // Trimmed in between, it is free again.
            if let Some(row) = self.find(&mut *transaction, keys).await? {
                return Ok(Claim::Taken(row));
            }
        }
    }

    async fn find(
        &self,
        connection: &mut PgConnection,
        keys: &TenantKeys,
    ) -> Result<Option<IdempotencyKeyRow>, sqlx::Error> {
        sqlx::query_as!(
            IdempotencyKeyRow,
            r#"select tenant_id, user_uid, service_account_name, counter, idempotency_key,
                      operation, amount, counted_time as "counted_time: DbTime", answer,
                      key_version, mac
               from idempotency_key
               where tenant_id = $1 and user_uid = $2 and service_account_name = $3
                 and counter = $4 and idempotency_key = $5"#,
            keys.tenant().as_uuid(),
            self.user.as_uuid(),
            self.service_account.as_str(),
            self.counter.as_str(),
            self.key.as_str(),
        )
        .fetch_optional(connection)
        .await
    }

    /// Writes the answer to a request that was the first with its key.
    pub(crate) async fn store(
        &self,
        transaction: &mut PgConnection,
        keys: &TenantKeys,
        counted_time: DbTime,
        answer: Vec<u8>,
    ) -> Result<(), sqlx::Error> {
        let row = IdempotencyKeyRow {
            tenant_id: keys.tenant().as_uuid(),
            user_uid: self.user.as_uuid(),
            service_account_name: self.service_account.to_string(),
            counter: self.counter.to_string(),
            idempotency_key: self.key.to_string(),
            operation: self.operation.as_str().to_owned(),
            amount: self.amount,
            counted_time,
            answer,
            key_version: 0,
            mac: Vec::new(),
        };
        let row = authenticate(row, keys.newest());
        sqlx::query!(
            "update idempotency_key set answer = $6, key_version = $7, mac = $8
             where tenant_id = $1 and user_uid = $2 and service_account_name = $3
               and counter = $4 and idempotency_key = $5",
            row.tenant_id,
            row.user_uid,
            row.service_account_name,
            row.counter,
            row.idempotency_key,
            row.answer,
            row.key_version,
            row.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Whether a verified row is about the same request, and not about another
    /// one with the same key.
    pub(crate) fn is_of(&self, row: &IdempotencyKeyRow) -> bool {
        (row.operation.as_str(), row.amount) == (self.operation.as_str(), self.amount)
    }
}

impl IdempotencyKeyRow {
    /// The row again, if it is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Self, IntegrityFailure> {
        let row = authentic(self, keys)?;
        match Operation::parse(&row.operation) {
            Some(_) => Ok(row),
            None => Err(IntegrityFailure::of(&row)),
        }
    }
}

impl AuthenticatedRow for IdempotencyKeyRow {
    const TABLE: &'static str = "idempotency_key";
    mac_columns!();

    fn row_key(&self) -> String {
        let (user, account) = (self.user_uid, &self.service_account_name);
        format!("{user}/{account}/{}/{}", self.counter, self.idempotency_key)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.user_uid)
            .text(&self.service_account_name)
            .text(&self.counter)
            .text(&self.idempotency_key)
            .text(&self.operation)
            .i64(self.amount)
            .i64(self.counted_time.micros())
            .bytes(&self.answer)
    }
}
