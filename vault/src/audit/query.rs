//! Reading records, for people. Each query leaves a record of itself before it is answered, but
//! for a look on from within the last minute that found nothing, or only that others looked.
//!
//! Names are those of the rows with these ids, which may be changed by whoever writes the
//! database; `verify` is for finding out whether the records are.

use std::time::Duration;

use bursar_wire::people::{AccessRecord, AuditPage, AuditQuery, LARGEST_PAGE};
use uuid::Uuid;

use super::chain::append;
use super::record::{Outcome, Record};
use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::people::Person;
use crate::tenant::Tenant;
use crate::vault::Vault;

/// Records that commit late have a time a little in the past: whoever goes on after the last page
/// looks so far back again.
const LATE: Duration = Duration::from_secs(10);
/// Who looks on from here on, and finds nothing, leaves no record; anybody can write such a cursor,
/// but not ask about more by it.
const LOOKED_ON: Duration = Duration::from_secs(60);
/// No name or claim is longer, in bytes.
const LONGEST_TEXT: usize = 253;

/// Which records, and how many of them.
#[derive(Clone, Debug)]
pub struct AuditFilter {
    query: AuditQuery,
    cursor: Option<Position>,
    limit: u32,
}

/// What is wrong with a query. What was sent is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuditFilterError {
    /// A name or claim that none can be.
    #[error("{0} is 1 to 253 bytes of text without control characters")]
    Text(&'static str),
    /// An outcome that there is not.
    #[error("outcome is one of Served, Unaccounted, Accounted, Denied, Queried and Revoked")]
    Outcome,
    /// No page is that large.
    #[error("limit is 1 to 1000")]
    Limit,
    /// A cursor that no page had.
    #[error("cursor is that of the page before, unchanged")]
    Cursor,
    /// A time that the database does not know.
    #[error("{0} is later than 4713 BC")]
    Time(&'static str),
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Position {
    time: DbTime,
    chain: Uuid,
    record_no: i64,
}

impl Position {
    /// Before all records of a moment.
    const fn before(time: DbTime) -> Self {
        Self {
            time,
            chain: Uuid::nil(),
            record_no: 0,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let position = Self {
            time: DbTime::from_micros(parts.next()?.parse().ok()?),
            chain: parts.next()?.parse().ok()?,
            record_no: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && position.time.is_storable()).then_some(position)
    }

    fn text(self) -> String {
        let (time, chain) = (self.time.micros(), self.chain);
        format!("{time}.{chain}.{}", self.record_no)
    }
}

impl TryFrom<AuditQuery> for AuditFilter {
    type Error = AuditFilterError;

    fn try_from(query: AuditQuery) -> Result<Self, AuditFilterError> {
        for (name, text) in texts(&query) {
            let fits = |text: &str| {
                (1..=LONGEST_TEXT).contains(&text.len()) && !text.contains(char::is_control)
            };
            if !text.is_none_or(fits) {
                return Err(AuditFilterError::Text(name));
            }
        }
        let outcome = query.outcome.as_deref();
        if outcome.is_some_and(|outcome| Outcome::parse(outcome).is_none()) {
            return Err(AuditFilterError::Outcome);
        }
        for (name, time) in [("since", query.since), ("until", query.until)] {
            if !time.is_none_or(|time| DbTime::from(time).is_storable()) {
                return Err(AuditFilterError::Time(name));
            }
        }
        let limit = query.limit.unwrap_or(LARGEST_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(AuditFilterError::Limit);
        }
        let cursor = match &query.cursor {
            Some(text) => Some(Position::parse(text).ok_or(AuditFilterError::Cursor)?),
            None => None,
        };
        Ok(Self {
            query,
            cursor,
            limit,
        })
    }
}

/// The parts of a query that are names or claims.
fn texts(query: &AuditQuery) -> [(&'static str, Option<&str>); 5] {
    [
        ("user", query.user.as_deref()),
        ("token", query.token.as_deref()),
        ("service_account", query.service_account.as_deref()),
        ("purpose", query.purpose.as_deref()),
        ("app", query.app.as_deref()),
    ]
}

impl AuditFilter {
    /// What was asked by, without what was asked for: that goes on record.
    fn kinds(&self) -> String {
        let query = &self.query;
        let texts = texts(query).map(|(name, text)| text.map(|_| name));
        let others = [
            query.outcome.as_ref().map(|_| "outcome"),
            query.since.map(|_| "since"),
            query.until.map(|_| "until"),
        ];
        let kinds = texts.into_iter().chain(others).flatten();
        std::iter::once("audit")
            .chain(kinds)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether a page is worth a record: looking on from within the last minute is not, when it
    /// found nothing, or only that others looked, or looking on would never find nothing.
    fn is_recorded(&self, now: DbTime, found: &[AccessRecord]) -> bool {
        let told = |record: &AccessRecord| record.outcome != Outcome::Queried.as_str();
        let looks_on = !self.query.newest_first
            && self
                .cursor
                .is_some_and(|cursor| cursor.time > now.before(LOOKED_ON));
        !looks_on || found.iter().any(told)
    }
}

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
        let mut rows = if query.newest_first {
            let from = filter.cursor.unwrap_or(Position::before(DbTime::INFINITY));
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
            let from = filter
                .cursor
                .unwrap_or(Position::before(DbTime::MINUS_INFINITY));
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
        let last = rows.last().map(|row| Position {
            time: row.recorded_time,
            chain: row.chain_id,
            record_no: row.record_no,
        });
        let cursor = match (more, query.newest_first) {
            (false, true) => None,
            (true, newest_first) if newest_first || !query.follow => last,
            (more, _) => {
                let settled = Position::before(now.before(LATE));
                match (last, filter.cursor) {
                    (Some(last), _) if more && last.time < settled.time => Some(last),
                    (_, Some(cursor)) if cursor.time > settled.time => Some(cursor),
                    _ => Some(settled),
                }
            }
        };
        let records: Vec<AccessRecord> = rows.into_iter().map(AccessRecord::from).collect();
        if filter.is_recorded(now, &records) {
            let record = Record::of_person(Outcome::Queried, person, filter.kinds(), now);
            let chain = tenant.uuid();
            append(&mut transaction, tenant.keys(), chain, vec![record]).await?;
        }
        // Only what is on record is told.
        transaction.commit().await?;
        Ok(AuditPage {
            records,
            cursor: cursor.map(Position::text),
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
        let record = Record::of_person(Outcome::Queried, person, "why", now);
        let chain = tenant.uuid();
        append(&mut transaction, tenant.keys(), chain, vec![record]).await?;
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
        let record = Record::of_person(Outcome::Queried, person, "audit verify", now);
        let chain = tenant.uuid();
        append(&mut transaction, tenant.keys(), chain, vec![record]).await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_nothing_else_is_one() {
        let position = Position {
            time: DbTime::from_micros(-7),
            chain: Uuid::from_u128(5),
            record_no: 12,
        };
        assert_eq!(Position::parse(&position.text()), Some(position));
        for wrong in [
            "",
            "1",
            "1.2.3",
            "1.00000000-0000-0000-0000-000000000005.1.1",
        ] {
            assert_eq!(Position::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_that_the_database_does_not_know_is_refused() {
        let refused = |query| AuditFilter::try_from(query).err();
        let before = "-009000-01-01T00:00:00Z".parse().unwrap();
        let query = AuditQuery {
            since: Some(before),
            ..AuditQuery::default()
        };
        assert_eq!(refused(query), Some(AuditFilterError::Time("since")));
        let query = AuditQuery {
            until: Some(before),
            ..AuditQuery::default()
        };
        assert_eq!(refused(query), Some(AuditFilterError::Time("until")));
        for micros in [i64::MIN, -9_000_000_000_000_000_000, i64::MAX] {
            let position = Position::before(DbTime::from_micros(micros));
            let query = AuditQuery {
                cursor: Some(position.text()),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Cursor));
        }
    }

    #[test]
    fn what_goes_on_record_of_a_query_is_its_kind_alone() {
        let query = AuditQuery {
            user: Some("ana".to_owned()),
            service_account: Some("planted".to_owned()),
            since: Some(jiff::Timestamp::UNIX_EPOCH),
            ..AuditQuery::default()
        };
        let filter = AuditFilter::try_from(query).unwrap();
        assert_eq!(filter.kinds(), "audit user service_account since");
    }

    #[test]
    fn a_query_that_cannot_find_anything_is_refused() {
        let refused = |query| AuditFilter::try_from(query).err();
        let outcome = AuditQuery {
            outcome: Some("served".to_owned()),
            ..AuditQuery::default()
        };
        assert_eq!(refused(outcome), Some(AuditFilterError::Outcome));
        for limit in [0, 1_001] {
            let query = AuditQuery {
                limit: Some(limit),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Limit));
        }
        for text in ["", "a\0b", &"a".repeat(254)] {
            let query = AuditQuery {
                app: Some(text.to_owned()),
                ..AuditQuery::default()
            };
            assert_eq!(refused(query), Some(AuditFilterError::Text("app")));
        }
    }
}
