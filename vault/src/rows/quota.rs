//! `quota`: a limit on what may be used in a window of time.

use std::num::NonZeroU32;

use bursar_seal::{RowWriter, TokenId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns, text_enum};
use crate::integrity::IntegrityFailure;
use crate::names::{Counter, QuotaId, QuotaName, ServiceAccountName, UserUid};
use crate::tenant_keys::TenantKeys;

text_enum! {
    /// What becomes of a use beyond the limit.
    Enforcement {
        /// It is refused.
        Enforce,
        /// It is allowed, and shows.
        Warn,
    }
}

/// Whose uses count together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// Those of all tokens of a user.
    User(UserUid),
    /// Those of one token.
    Token(TokenId),
    /// Those that one service account makes, of whatever token.
    ServiceAccount(ServiceAccountName),
    /// Those of each user on its own, unless the user has a quota for the same
    /// counter and window.
    EachUser,
}

/// The time in which uses count together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Window {
    /// All time.
    Lifetime,
    /// So many seconds, aligned to the Unix epoch.
    Period(NonZeroU32),
}

/// A row of `quota` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct QuotaRow {
    pub tenant_id: Uuid,
    pub quota_id: Uuid,
    pub name: String,
    pub subject_kind: String,
    pub subject: String,
    pub counter: String,
    pub units: i64,
    pub period_s: Option<i64>,
    pub enforcement: String,
    pub epoch: i64,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified quota.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quota {
    /// `metadata.uid` of the TokenQuota.
    pub id: QuotaId,
    /// Its name.
    pub name: QuotaName,
    /// Whose uses count.
    pub subject: Subject,
    /// What is counted.
    pub counter: Counter,
    /// How many units there are in a window; not negative.
    pub units: i64,
    /// When it begins anew.
    pub window: Window,
    /// What becomes of a use beyond it.
    pub enforcement: Enforcement,
    /// The epoch of the set since which it is as strict as it is.
    pub epoch: i64,
}

impl Subject {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "User",
            Self::Token(_) => "Token",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::EachUser => "EachUser",
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::User(uid) => uid.to_string(),
            Self::Token(id) => id.to_string(),
            Self::ServiceAccount(name) => name.to_string(),
            Self::EachUser => String::new(),
        }
    }

    fn parse(kind: &str, text: &str) -> Option<Self> {
        let uuid = || Uuid::parse_str(text).ok();
        Some(match kind {
            "User" => Self::User(uuid()?.into()),
            "Token" => Self::Token(uuid()?.into()),
            "ServiceAccount" => Self::ServiceAccount(text.parse().ok()?),
            "EachUser" if text.is_empty() => Self::EachUser,
            _ => return None,
        })
    }
}

impl Window {
    /// The period in seconds, as SQL has it.
    pub(crate) fn period(self) -> Option<i64> {
        match self {
            Self::Lifetime => None,
            Self::Period(seconds) => Some(seconds.get().into()),
        }
    }

    fn parse(period: Option<i64>) -> Option<Self> {
        Some(match period {
            None => Self::Lifetime,
            Some(seconds) => Self::Period(u32::try_from(seconds).ok()?.try_into().ok()?),
        })
    }
}

impl Quota {
    pub(crate) fn to_row(&self, keys: &TenantKeys) -> QuotaRow {
        let row = QuotaRow {
            tenant_id: keys.tenant().as_uuid(),
            quota_id: self.id.as_uuid(),
            name: self.name.to_string(),
            subject_kind: self.subject.kind().to_owned(),
            subject: self.subject.text(),
            counter: self.counter.to_string(),
            units: self.units,
            period_s: self.window.period(),
            enforcement: self.enforcement.as_str().to_owned(),
            epoch: self.epoch,
            key_version: 0,
            mac: Vec::new(),
        };
        authenticate(row, keys.newest())
    }
}

impl QuotaRow {
    /// The quota, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Quota, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into quota (tenant_id, quota_id, name, subject_kind, subject, counter, units,
                                period_s, enforcement, epoch, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             on conflict (tenant_id, quota_id) do update set
                 name = excluded.name, subject_kind = excluded.subject_kind,
                 subject = excluded.subject, counter = excluded.counter, units = excluded.units,
                 period_s = excluded.period_s, enforcement = excluded.enforcement,
                 epoch = excluded.epoch, key_version = excluded.key_version, mac = excluded.mac",
            self.tenant_id,
            self.quota_id,
            self.name,
            self.subject_kind,
            self.subject,
            self.counter,
            self.units,
            self.period_s,
            self.enforcement,
            self.epoch,
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
        id: QuotaId,
    ) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "delete from quota where tenant_id = $1 and quota_id = $2",
            tenant,
            id.as_uuid(),
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    fn parse(&self) -> Option<Quota> {
        Some(Quota {
            id: self.quota_id.into(),
            name: self.name.parse().ok()?,
            subject: Subject::parse(&self.subject_kind, &self.subject)?,
            counter: self.counter.parse().ok()?,
            units: (self.units >= 0).then_some(self.units)?,
            window: Window::parse(self.period_s)?,
            enforcement: Enforcement::parse(&self.enforcement)?,
            epoch: self.epoch,
        })
    }
}

impl AuthenticatedRow for QuotaRow {
    const TABLE: &'static str = "quota";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.quota_id)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.quota_id)
            .text(&self.name)
            .text(&self.subject_kind)
            .text(&self.subject)
            .text(&self.counter)
            .i64(self.units)
            .opt_i64(self.period_s)
            .text(&self.enforcement)
            .i64(self.epoch)
    }
}
