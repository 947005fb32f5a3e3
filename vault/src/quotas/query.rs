//! How quotas stand, exactly, for people. Each query leaves a record of itself before it is
//! answered.
//!
//! Names of users and tokens are those of the rows with these ids, which may be changed by
//! whoever writes the database, as counts may be.

mod filter;
mod names;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use bursar_wire::people::{QuotaUse, QuotaUses, QuotaWindow};
use sqlx::PgConnection;
use tokio::time::Instant;

use super::held::held;
use super::stored::Stored;
use super::usage::{Concern, UsageId, with_their_own};
use super::uses::{Use, uses};
use crate::audit::record_query;
use crate::db_time::{DbTime, db_now};
use crate::error::{DatabaseError, VaultError};
use crate::integrity::{self, IntegrityFailure};
use crate::names::UserUid;
use crate::people::Person;
use crate::rows::{Quota, Subject};
use crate::tenant::Tenant;
use crate::vault::Vault;

pub use filter::{QuotaFilter, QuotaFilterError};
use names::Names;

/// No answer has more lines, whatever there is.
const MOST_LINES: usize = 10_000;
/// Users whose counts are looked up at a time.
const USERS_AT_A_TIME: usize = 1_000;

/// A count that is told of, and whose it is.
struct Line<'a> {
    concern: Concern<'a>,
    user: Option<&'a str>,
}

impl Vault {
    /// How much of quotas is used in their present windows. Leaves a record that `person` asked,
    /// and by what.
    ///
    /// # Errors
    /// As [`Vault::query_audit`].
    pub async fn query_quotas(
        &self,
        tenant: &Tenant,
        filter: &QuotaFilter,
        person: &Person,
    ) -> Result<QuotaUses, VaultError> {
        let (uses, damaged) = self.read_quotas(tenant, filter).await?;
        let mut transaction = self.begin_reading("begin").await?;
        let now = db_now(&mut transaction).await?;
        record_query(&mut transaction, tenant, person, &filter.kinds(), now).await?;
        // Only what is on record is told.
        transaction.commit().await?;
        integrity::record_all(self, &damaged).await?;
        Ok(uses)
    }

    /// All from one snapshot, so that what is held is part of what is used.
    async fn read_quotas(
        &self,
        tenant: &Tenant,
        filter: &QuotaFilter,
    ) -> Result<(QuotaUses, Vec<IntegrityFailure>), DatabaseError> {
        // Each statement has its limit, but there is at least one for each default.
        let deadline = Instant::now() + self.query_limit();
        let mut snapshot = self.begin_query_snapshot().await?;
        let stored = Stored::read(&mut snapshot, tenant).await?;
        let names = Names::read(&mut snapshot, tenant, &stored.quotas).await?;
        let Told {
            lines,
            more,
            truncated,
        } = tell(
            (&mut snapshot, deadline),
            tenant,
            filter,
            &stored.quotas,
            &names,
        )
        .await?;
        let concerns: Vec<_> = lines.iter().map(|line| line.concern.clone()).collect();
        let uses = uses(&mut snapshot, tenant, &concerns).await?;
        // Several quotas may look at one count.
        let windows: BTreeMap<UsageId, i64> = uses
            .iter()
            .map(|(usage, present)| (*usage, present.window_no))
            .collect();
        let held = held(&mut snapshot, tenant, windows).await?;
        snapshot.commit().await?;
        let told = lines.iter().map(|line| line.told(&names, &uses, &held));
        let uses = QuotaUses {
            quotas: told.collect(),
            more,
            truncated,
            damaged: !stored.damaged.is_empty(),
        };
        Ok((uses, stored.damaged))
    }
}

/// What is told.
#[derive(Default)]
struct Told<'a> {
    lines: Vec<Line<'a>>,
    /// More users used something of a default than are told of.
    more: bool,
    /// There were more lines than any answer has.
    truncated: bool,
}

async fn tell<'a>(
    (connection, deadline): (&mut PgConnection, Instant),
    tenant: &Tenant,
    filter: &'a QuotaFilter,
    all: &'a [Quota],
    names: &'a Names,
) -> Result<Told<'a>, DatabaseError> {
    let only = match &filter.user {
        None => None,
        Some(name) => match names.uid(name) {
            None => return Ok(Told::default()),
            Some(uid) => Some((uid, name.as_str())),
        },
    };
    let is_asked = |quota: &&Quota| filter.name.as_ref().is_none_or(|name| quota.name == *name);
    let mut asked: Vec<&Quota> = all.iter().filter(is_asked).collect();
    asked.sort_by_key(|quota| quota.name.as_str());
    let mut told = Told::default();
    for quota in asked {
        match (&quota.subject, only) {
            (Subject::EachUser, None) => {
                let users = users_of(quota, all, names);
                let reading = (&mut *connection, deadline);
                let (lines, more) = most_used(reading, tenant, quota, users, filter.limit).await?;
                told.lines.extend(lines);
                told.more |= more;
            }
            (Subject::EachUser, Some((uid, name))) => {
                if !with_their_own(quota, all).contains(&uid) {
                    told.lines.push(of_user(quota, uid, name));
                }
            }
            (subject, only) => {
                let owner = names.owner(subject);
                let is_owner = |uid| owner.is_some_and(|(owner, _)| owner == uid);
                if only.is_none_or(|(uid, _)| is_owner(uid)) {
                    told.lines.push(Line {
                        concern: Concern::new(quota, subject.clone()),
                        user: owner.map(|(_, name)| name),
                    });
                }
            }
        }
        if told.lines.len() > MOST_LINES {
            told.lines.truncate(MOST_LINES);
            told.truncated = true;
            break;
        }
    }
    Ok(told)
}

/// The users to whom a default applies.
fn users_of<'a>(default: &Quota, all: &[Quota], names: &'a Names) -> Vec<(UserUid, &'a str)> {
    let own = with_their_own(default, all);
    let users = names.users().filter(|(uid, _)| !own.contains(uid));
    users.collect()
}

fn of_user<'a>(default: &'a Quota, uid: UserUid, name: &'a str) -> Line<'a> {
    Line {
        concern: Concern::new(default, Subject::User(uid)),
        user: Some(name),
    }
}

/// Those of `users` who used most of a default, one line of nobody when none used anything; and
/// whether more than `limit` did.
async fn most_used<'a>(
    (connection, deadline): (&mut PgConnection, Instant),
    tenant: &Tenant,
    default: &'a Quota,
    users: Vec<(UserUid, &'a str)>,
    limit: usize,
) -> Result<(Vec<Line<'a>>, bool), DatabaseError> {
    let (mut ranking, mut more) = (Vec::new(), false);
    for users in users.chunks(USERS_AT_A_TIME) {
        if Instant::now() >= deadline {
            return Err(DatabaseError::TookTooLong);
        }
        let lines = users.iter().map(|(uid, name)| of_user(default, *uid, name));
        let concerns: Vec<Concern<'_>> = lines.map(|line| line.concern).collect();
        let uses = uses(connection, tenant, &concerns).await?;
        for ((uid, name), concern) in users.iter().zip(concerns) {
            let used = uses.get(&concern.usage).map_or(0, |present| present.used);
            if used > 0 {
                ranking.push((Reverse(used), *name, *uid));
            }
        }
        ranking.sort_unstable();
        more |= ranking.len() > limit;
        ranking.truncate(limit);
    }
    if ranking.is_empty() {
        let nobody = Line {
            concern: Concern::new(default, Subject::EachUser),
            user: None,
        };
        return Ok((vec![nobody], false));
    }
    let most = ranking.into_iter();
    let most = most.map(|(_, name, uid)| of_user(default, uid, name));
    Ok((most.collect(), more))
}

impl Line<'_> {
    fn told(
        &self,
        names: &Names,
        uses: &HashMap<UsageId, Use>,
        held: &HashMap<UsageId, i64>,
    ) -> QuotaUse {
        let Concern { quota, usage, .. } = &self.concern;
        let present = uses.get(usage).copied().unwrap_or_default();
        let limit = quota.units.unsigned_abs();
        let used = present.used.unsigned_abs();
        QuotaUse {
            name: quota.name.to_string(),
            subject: names.subject(&quota.subject),
            user: self.user.map(str::to_owned),
            counter: quota.counter.to_string(),
            enforcement: quota.enforcement.as_str().to_owned(),
            limit,
            used,
            held: held.get(usage).map_or(0, |units| units.unsigned_abs()),
            remaining: limit.saturating_sub(used),
            window: match quota.window.period() {
                None => QuotaWindow::Lifetime,
                Some(seconds) => QuotaWindow::Period {
                    period_seconds: seconds.unsigned_abs(),
                },
            },
            resets_time: present.window_end_time.and_then(DbTime::timestamp),
        }
    }
}
