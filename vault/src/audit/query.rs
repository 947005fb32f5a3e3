//! Reading records, for people. Each query leaves a record of itself before it is answered, but
//! for a look on from within the last minute that gives nothing but what the page before gave to
//! the same person, or that others looked: else looking on would never find nothing.
//!
//! Names are those of the rows with these ids, which may be changed by whoever writes the
//! database; `verify` is for finding out whether the records are.

use bursar_wire::people::{AccessRecord, AuditPage};
use sqlx::PgConnection;
use uuid::Uuid;

use super::chain::append;
use super::cursor::{Cursor, Given, Position};
use super::filter::AuditFilter;
use super::record::{Outcome, Record};
use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::people::Person;
use crate::tenant::Tenant;
use crate::vault::Vault;

/// A record with its names.
struct Row {
    recorded_time: DbTime,
    count: i32,
    outcome: String,
    user: Option<String>,
    token: Option<String>,
    version: Option<i32>,
    service_account_name: String,
    pod: Option<String>,
    app_name: String,
    purpose: String,
    first_time: DbTime,
    last_time: DbTime,
    decision_id: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    person: Option<String>,
    chain_id: Uuid,
    record_no: i64,
}

impl Row {
    fn place(&self) -> Position {
        Position {
            time: self.recorded_time,
            chain: self.chain_id,
            record_no: self.record_no,
        }
    }
}

impl From<Row> for AccessRecord {
    fn from(row: Row) -> Self {
        // Outside the years that can be printed only if somebody changed it.
        let time = |time: DbTime| time.timestamp().unwrap_or_default();
        Self {
            recorded_time: time(row.recorded_time),
            count: row.count,
            outcome: row.outcome,
            user: row.user,
            token: row.token,
            version: row.version,
            service_account_name: row.service_account_name,
            pod: row.pod,
            app_name: row.app_name,
            purpose: row.purpose,
            first_time: time(row.first_time),
            last_time: time(row.last_time),
            decision_id: row.decision_id,
            code: row.code,
            reason: row.reason,
            person: row.person,
            chain_id: row.chain_id,
            record_no: row.record_no,
        }
    }
}

/// The records of a tenant that fit a filter, with their names, behind or before a position.
macro_rules! page {
    ($behind:literal, $order:literal, $tenant:expr, $query:expr, $from:expr, $limit:expr) => {
        sqlx::query_as!(
            Row,
            r#"select r.recorded_time as "recorded_time: DbTime", r.count, r.outcome,
                      coalesce(u.name, r.user_name) as "user?",
                      coalesce(t.name, r.token_name) as "token?", r.version,
                      r.service_account_name, i.pod_name as "pod?", r.app_name, r.purpose,
                      r.first_time as "first_time: DbTime", r.last_time as "last_time: DbTime",
                      r.decision_id, r.code, r.reason, r.person, r.chain_id, r.record_no
               from access_record r
               left join token_user u on u.tenant_id = r.tenant_id and u.user_uid = r.user_uid
               left join token t on t.tenant_id = r.tenant_id and t.token_id = r.token_id
               left join incarnation i
                   on i.tenant_id = r.tenant_id and i.incarnation_id = r.chain_id
               where r.tenant_id = $1
                 and ($2::text is null or r.user_name = $2 or r.user_uid = any(array(
                     select user_uid from token_user where tenant_id = $1 and name = $2)))
                 and ($3::text is null or r.token_name = $3 or r.token_id = any(array(
                     select token_id from token where tenant_id = $1 and name = $3)))
                 and ($4::text is null or r.service_account_name = $4)
                 and ($5::text is null or r.purpose = $5)
                 and ($6::text is null or r.app_name = $6)
                 and ($7::text is null or r.outcome = $7)
                 and r.recorded_time >= coalesce($8, '-infinity'::timestamptz)
                 and r.recorded_time < coalesce($9, 'infinity'::timestamptz)
                 and (r.recorded_time, r.chain_id, r.record_no) "#
                + $behind
                + r#" ($10, $11, $12)
               order by "#
                + $order
                + r#" limit $13"#,
            $tenant,
            $query.user,
            $query.token,
            $query.service_account,
            $query.purpose,
            $query.app,
            $query.outcome,
            $query.since.map(DbTime::from) as _,
            $query.until.map(DbTime::from) as _,
            $from.time as _,
            $from.chain,
            $from.record_no,
            $limit,
        )
    };
}

impl Vault {
    /// A page of records. Leaves a record that `person` asked, and by what.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when the tenant's audit key is not what the vault wrote; or when
    /// the database is away or refuses: then nothing was told.
    pub async fn query_audit(
        &self,
        tenant: &Tenant,
        filter: &AuditFilter,
        person: &Person,
    ) -> Result<AuditPage, VaultError> {
        let query = &filter.query;
        let mut transaction = self.begin_query().await?;
        let now = db_now(&mut transaction).await?;
        // One more than asked for tells whether there are more.
        let limit = i64::from(filter.limit) + 1;
        let position = filter.cursor.map(|cursor| cursor.position);
        let mut rows = if query.newest_first {
            let from = position.unwrap_or(Position::before(DbTime::INFINITY));
            page!(
                "<",
                "r.recorded_time desc, r.chain_id desc, r.record_no desc",
                tenant.uuid(),
                query,
                from,
                limit
            )
            .fetch_all(&mut *transaction)
            .await?
        } else {
            let from = position.unwrap_or(Position::before(DbTime::MINUS_INFINITY));
            page!(
                ">",
                "r.recorded_time, r.chain_id, r.record_no",
                tenant.uuid(),
                query,
                from,
                limit
            )
            .fetch_all(&mut *transaction)
            .await?
        };
        let more = rows.len() as i64 == limit;
        rows.truncate(filter.limit as usize);
        let tells = |row: &&Row| row.outcome != Outcome::Queried.as_str();
        let given = Given {
            key: tenant.keys().newest().row_mac(),
            person,
            query,
            places: rows.iter().filter(tells).map(Row::place).collect(),
        };
        let looks_on = filter.looks_on(now);
        if !looks_on.is_some_and(|cursor| given.is_known_by(cursor)) {
            record_query(&mut transaction, tenant, person, &filter.kinds(), now).await?;
        }
        let next = filter.next(now, rows.last().map(Row::place), more);
        let cursor = next.map(|position| given.cursor(position));
        // Only what is on record is told.
        transaction.commit().await?;
        Ok(AuditPage {
            records: rows.into_iter().map(AccessRecord::from).collect(),
            cursor: cursor.map(Cursor::text),
            more,
        })
    }

    /// The record of one refused request, if its broker reported it. Leaves a record that `person`
    /// asked.
    ///
    /// # Errors
    /// As [`Vault::query_audit`].
    pub async fn find_denial(
        &self,
        tenant: &Tenant,
        decision_id: &str,
        person: &Person,
    ) -> Result<Option<AccessRecord>, VaultError> {
        let mut transaction = self.begin_query().await?;
        let now = db_now(&mut transaction).await?;
        let row = sqlx::query_as!(
            Row,
            r#"select r.recorded_time as "recorded_time: DbTime", r.count, r.outcome,
                      r.user_name as "user?", r.token_name as "token?", r.version,
                      r.service_account_name, i.pod_name as "pod?", r.app_name, r.purpose,
                      r.first_time as "first_time: DbTime", r.last_time as "last_time: DbTime",
                      r.decision_id, r.code, r.reason, r.person, r.chain_id, r.record_no
               from access_record r
               left join incarnation i
                   on i.tenant_id = r.tenant_id and i.incarnation_id = r.chain_id
               where r.tenant_id = $1 and r.decision_id = $2 and r.outcome = 'Denied'
               order by r.recorded_time limit 1"#,
            tenant.uuid(),
            decision_id,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        record_query(&mut transaction, tenant, person, "why", now).await?;
        transaction.commit().await?;
        Ok(row.map(AccessRecord::from))
    }

    /// Leaves a record that `person` has the records verified.
    ///
    /// # Errors
    /// As [`Vault::query_audit`].
    pub async fn record_verification(
        &self,
        tenant: &Tenant,
        person: &Person,
    ) -> Result<(), VaultError> {
        let mut transaction = self.begin().await?;
        let now = db_now(&mut transaction).await?;
        record_query(&mut transaction, tenant, person, "audit verify", now).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// Leaves a record that `person` asked, and for what or by what.
pub(crate) async fn record_query(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    person: &Person,
    purpose: &str,
    now: DbTime,
) -> Result<(), VaultError> {
    // Reading may be given up, a write may not: what is told is on record wherever a commit
    // has to reach.
    sqlx::query("set local statement_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    let record = Record::of_person(Outcome::Queried, person, purpose, now);
    append(transaction, tenant.keys(), tenant.uuid(), vec![record]).await
}
