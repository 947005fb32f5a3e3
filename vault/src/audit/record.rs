//! `access_record`: what the audit holds.

use bursar_seal::RowWriter;
use uuid::Uuid;

use crate::db_time::DbTime;
use crate::people::Person;
use crate::rows::text_enum;

text_enum! {
    /// What a record tells of.
    Outcome {
        /// A broker gave out a value.
        Served,
        /// A broker may have given it out and never said.
        Unaccounted,
        /// How much of what was unaccounted for it told of later.
        Accounted,
        /// A request was refused.
        Denied,
        /// A person read the audit, or how quotas stand.
        Queried,
        /// A person revoked a token.
        Revoked,
    }
}

/// A row of `access_record` as it lies in the database; the fields are its
/// columns, in their order.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow, sqlx::Type)]
#[sqlx(type_name = "access_record")]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct Record {
    pub tenant_id: Uuid,
    pub chain_id: Uuid,
    pub record_no: i64,
    pub recorded_time: DbTime,
    pub outcome: String,
    pub report_seq: Option<i64>,
    pub allowance_id: Option<Uuid>,
    pub user_uid: Option<Uuid>,
    pub token_id: Option<Uuid>,
    pub version: Option<i32>,
    pub service_account_name: String,
    pub app_name: String,
    pub purpose: String,
    pub count: i32,
    pub first_time: DbTime,
    pub last_time: DbTime,
    pub decision_id: Option<String>,
    pub code: Option<String>,
    pub reason: Option<String>,
    pub user_name: Option<String>,
    pub token_name: Option<String>,
    pub person: Option<String>,
    pub secret_version: i32,
    pub mac: Vec<u8>,
}

impl Record {
    /// A record of one thing that happened between two times, and of nothing
    /// else yet. Its place in a chain is given to it when it is appended.
    #[must_use]
    pub fn new(outcome: Outcome, first_time: DbTime, last_time: DbTime) -> Self {
        Self {
            tenant_id: Uuid::nil(),
            chain_id: Uuid::nil(),
            record_no: 0,
            recorded_time: last_time,
            outcome: outcome.as_str().to_owned(),
            report_seq: None,
            allowance_id: None,
            user_uid: None,
            token_id: None,
            version: None,
            service_account_name: String::new(),
            app_name: String::new(),
            purpose: String::new(),
            count: 1,
            first_time,
            last_time,
            decision_id: None,
            code: None,
            reason: None,
            user_name: None,
            token_name: None,
            person: None,
            secret_version: 0,
            mac: Vec::new(),
        }
    }

    /// A record of what a person did: `purpose` says what, in a word or a few.
    pub(crate) fn of_person(
        outcome: Outcome,
        person: &Person,
        purpose: impl Into<String>,
        now: DbTime,
    ) -> Self {
        Self {
            service_account_name: person.account(),
            purpose: purpose.into(),
            person: Some(person.name.to_string()),
            ..Self::new(outcome, now, now)
        }
    }

    /// What it tells of, unless somebody changed that.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        Outcome::parse(&self.outcome)
    }

    /// All columns but the MAC, in their order.
    pub(crate) fn content(&self) -> RowWriter {
        RowWriter::new("access_record")
            .uuid(self.tenant_id)
            .uuid(self.chain_id)
            .i64(self.record_no)
            .i64(self.recorded_time.micros())
            .text(&self.outcome)
            .opt_i64(self.report_seq)
            .opt_uuid(self.allowance_id)
            .opt_uuid(self.user_uid)
            .opt_uuid(self.token_id)
            .opt_i64(self.version.map(i64::from))
            .text(&self.service_account_name)
            .text(&self.app_name)
            .text(&self.purpose)
            .i64(self.count.into())
            .i64(self.first_time.micros())
            .i64(self.last_time.micros())
            .opt_text(self.decision_id.as_deref())
            .opt_text(self.code.as_deref())
            .opt_text(self.reason.as_deref())
            .opt_text(self.user_name.as_deref())
            .opt_text(self.token_name.as_deref())
            .opt_text(self.person.as_deref())
            .i64(self.secret_version.into())
    }
}
