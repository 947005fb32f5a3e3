//! How quotas stand, exactly, for people. Each query leaves a record of itself before it is
//! answered.
//!
//! Names of users and tokens are those of the rows with these ids, as in the audit. Counts are
//! not authenticated.

use std::collections::HashMap;

use bursar_seal::TokenId;
use bursar_wire::people::{LARGEST_PAGE, QuotaQuery, QuotaUse, QuotaUses};
use sqlx::PgConnection;
use uuid::Uuid;

use super::held::held;
use super::stored::Stored;
use super::usage::{Concern, UsageId, concerning_user};
use super::uses::{Use, uses};
use crate::audit::record_query;
use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::integrity;
use crate::names::{NameError, QuotaName, UserName, UserUid};
use crate::people::Person;
use crate::rows::{Quota, Subject};
use crate::tenant::Tenant;
use crate::vault::Vault;

/// Which quotas, and how much of them.
#[derive(Clone, Debug)]
pub struct QuotaFilter {
    name: Option<QuotaName>,
    user: Option<UserName>,
    limit: usize,
}

/// What is wrong with a query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuotaFilterError {
    /// A name that nothing can have.
    #[error("{0}: {1}")]
    Name(&'static str, NameError),
    /// No answer is that long.
    #[error("limit is 1 to {LARGEST_PAGE}")]
    Limit,
}

impl TryFrom<QuotaQuery> for QuotaFilter {
    type Error = QuotaFilterError;

    fn try_from(query: QuotaQuery) -> Result<Self, QuotaFilterError> {
        let limit = query.limit.unwrap_or(LARGEST_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(QuotaFilterError::Limit);
        }
        let name = query.name.as_deref().map(QuotaName::try_from).transpose();
        let user = query.user.as_deref().map(UserName::try_from).transpose();
        Ok(Self {
            name: name.map_err(|error| QuotaFilterError::Name("name", error))?,
            user: user.map_err(|error| QuotaFilterError::Name("user", error))?,
            limit: limit as usize,
        })
    }
}

impl QuotaFilter {
    /// What was asked by, without what was asked for: that goes on record.
    fn kinds(&self) -> String {
        let kinds = [
            self.name.as_ref().map(|_| "name"),
            self.user.as_ref().map(|_| "user"),
        ];
        std::iter::once("quotas")
            .chain(kinds.into_iter().flatten())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// A count that is told of, and of whom it is.
struct Line<'a> {
    concern: Concern<'a>,
    user: Option<&'a str>,
    present: Use,
}

impl Vault {
    /// How much of quotas is used in their present windows. Leaves a record that `person` asked,
    /// and by what. A count that moves meanwhile may be told as it was just before.
    ///
    /// # Errors
    /// As [`Vault::query_audit`].
    pub async fn query_quotas(
        &self,
        tenant: &Tenant,
        filter: &QuotaFilter,
        person: &Person,
    ) -> Result<QuotaUses, VaultError> {
        let mut transaction = self.begin_query().await?;
        let now = db_now(&mut transaction).await?;
        let stored = Stored::read(&mut transaction, tenant).await?;
        let names = Names::read(&mut transaction, tenant, &stored.quotas).await?;
        let (lines, more) = lines(&mut transaction, tenant, filter, &stored, &names).await?;
        let windows = lines
            .iter()
            .map(|line| (line.concern.usage, line.present.window_no));
        let held = held(&mut transaction, tenant, windows).await?;
        record_query(&mut transaction, tenant, person, &filter.kinds(), now).await?;
        // Only what is on record is told.
        transaction.commit().await?;
        integrity::record_all(self, &stored.damaged).await?;
        let quotas = lines.iter().map(|line| line.told(&names, &held));
        Ok(QuotaUses {
            quotas: quotas.collect(),
            more,
            damaged: !stored.damaged.is_empty(),
        })
    }
}

/// What quotas are about, by name.
struct Names {
    /// Users that are.
    users: HashMap<UserUid, String>,
    /// Tokens, with their users.
    tokens: HashMap<TokenId, (String, UserUid)>,
}

impl Names {
    async fn read(
        connection: &mut PgConnection,
        tenant: &Tenant,
        quotas: &[Quota],
    ) -> Result<Self, sqlx::Error> {
        let users = sqlx::query!(
            "select user_uid, name from token_user where tenant_id = $1 and deleted_time is null",
            tenant.uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let subjects = quotas.iter().filter_map(|quota| match quota.subject {
            Subject::Token(id) => Some(id.as_uuid()),
            _ => None,
        });
        let subjects: Vec<Uuid> = subjects.collect();
        let tokens = sqlx::query!(
            "select token_id, name, user_uid from token
             where tenant_id = $1 and token_id = any($2)",
            tenant.uuid(),
            &subjects,
        )
        .fetch_all(&mut *connection)
        .await?;
        let users = users.into_iter().map(|row| (row.user_uid.into(), row.name));
        let tokens = tokens
            .into_iter()
            .map(|row| (row.token_id.into(), (row.name, row.user_uid.into())));
        Ok(Self {
            users: users.collect(),
            tokens: tokens.collect(),
        })
    }

    fn uid(&self, name: &UserName) -> Option<UserUid> {
        let mut users = self.users.iter();
        users.find_map(|(uid, other)| (other == name.as_str()).then_some(*uid))
    }

    fn user(&self, uid: UserUid) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// Whose tokens or accesses a quota is about, if it is about those of one user.
    fn owner(&self, subject: &Subject) -> Option<UserUid> {
        match subject {
            Subject::User(uid) => Some(*uid),
            Subject::Token(id) => self.tokens.get(id).map(|(_, user)| *user),
            Subject::ServiceAccount(_) | Subject::EachUser => None,
        }
    }

    /// The subject of a quota; without its name when that is gone.
    fn subject(&self, subject: &Subject) -> String {
        let (kind, name) = match subject {
            Subject::User(uid) => ("user", self.user(*uid)),
            Subject::Token(id) => ("token", self.tokens.get(id).map(|(name, _)| name.as_str())),
            Subject::ServiceAccount(name) => ("serviceaccount", Some(name.as_str())),
            Subject::EachUser => return "each user".to_owned(),
        };
        name.map_or_else(|| kind.to_owned(), |name| format!("{kind}/{name}"))
    }
}

/// What is told, and whether there are more users that used something of a quota for each.
async fn lines<'a>(
    connection: &mut PgConnection,
    tenant: &Tenant,
    filter: &QuotaFilter,
    stored: &'a Stored,
    names: &'a Names,
) -> Result<(Vec<Line<'a>>, bool), sqlx::Error> {
    let only = match &filter.user {
        None => None,
        Some(name) => match names.uid(name) {
            None => return Ok((Vec::new(), false)),
            found => found,
        },
    };
    let asked = |quota: &&Quota| filter.name.as_ref().is_none_or(|name| quota.name == *name);
    let mut quotas: Vec<&Quota> = stored.quotas.iter().filter(asked).collect();
    quotas.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    let counts: Vec<(&Quota, Vec<Line<'a>>)> = quotas
        .into_iter()
        .map(|quota| (quota, counts(quota, &stored.quotas, only, names)))
        .collect();
    let concerns: Vec<Concern<'_>> = counts
        .iter()
        .flat_map(|(_, counts)| counts.iter().map(|line| line.concern.clone()))
        .collect();
    let uses = uses(connection, tenant, &concerns).await?;
    let (mut told, mut more) = (Vec::new(), false);
    for (quota, mut counts) in counts {
        for line in &mut counts {
            line.present = uses.get(&line.concern.usage).copied().unwrap_or_default();
        }
        if quota.subject == Subject::EachUser && only.is_none() {
            more |= keep_most_used(&mut counts, filter.limit);
        }
        told.extend(counts);
    }
    Ok((told, more))
}

/// The counts that a quota looks at: of `only` this user, if there is one. Those of a default
/// begin with one of nobody.
fn counts<'a>(
    quota: &'a Quota,
    all: &'a [Quota],
    only: Option<UserUid>,
    names: &'a Names,
) -> Vec<Line<'a>> {
    let line = |concern, user| Line {
        concern,
        user,
        present: Use::default(),
    };
    let itself = |user| line(Concern::new(quota, quota.subject.clone()), user);
    let of_user = |uid| {
        let concern = concerning_user(quota, all, uid, &[])?;
        Some(line(concern, names.user(uid)))
    };
    match (&quota.subject, only) {
        (Subject::EachUser, Some(uid)) => of_user(uid).into_iter().collect(),
        (Subject::EachUser, None) => std::iter::once(itself(None))
            .chain(names.users.keys().copied().filter_map(of_user))
            .collect(),
        (subject, only) => {
            let owner = names.owner(subject);
            if only.is_some() && owner != only {
                return Vec::new();
            }
            vec![itself(owner.and_then(|uid| names.user(uid)))]
        }
    }
}

/// Leaves so many of those who used something, who used most first, or the count of nobody when
/// nobody did; whether there were more.
fn keep_most_used(counts: &mut Vec<Line<'_>>, limit: usize) -> bool {
    let nobody = counts.swap_remove(0);
    counts.retain(|line| line.present.used > 0);
    if counts.is_empty() {
        counts.push(nobody);
    }
    counts.sort_by(|a, b| {
        let by_use = b.present.used.cmp(&a.present.used);
        by_use.then_with(|| a.user.cmp(&b.user))
    });
    let more = counts.len() > limit;
    counts.truncate(limit);
    more
}

impl Line<'_> {
    fn told(&self, names: &Names, held: &HashMap<UsageId, i64>) -> QuotaUse {
        let quota = self.concern.quota;
        let limit = quota.units.unsigned_abs();
        let used = self.present.used.unsigned_abs();
        let held = held.get(&self.concern.usage).copied().unwrap_or_default();
        QuotaUse {
            name: quota.name.to_string(),
            subject: names.subject(&quota.subject),
            user: self.user.map(str::to_owned),
            counter: quota.counter.to_string(),
            enforcement: quota.enforcement.as_str().to_owned(),
            limit,
            used,
            held: held.unsigned_abs(),
            remaining: limit.saturating_sub(used),
            period_seconds: quota.window.period().map(i64::unsigned_abs),
            resets_time: self.present.window_end_time.and_then(DbTime::timestamp),
        }
    }
}
