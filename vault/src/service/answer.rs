//! The answer to a request, written and committed in one round trip, together with
//! what is charged for it.
//!
//! Nothing is written unless the run is still the one that was read: the caller reads
//! again then.

use sqlx::PgConnection;
use uuid::Uuid;

use super::VaultService;
use super::entitlement::{Exhausted, Refusal};
use super::error::CallError;
use super::grant::{Asker, Entitled};
use super::metrics;
use super::wish::Wish;
use crate::db_time::DbTime;
use crate::quotas::{self, UsageId};
use crate::tenant::Tenant;

/// The most allowances that one broker has open: as many tokens as it could ask
/// for in a lease, and no more than a row each of somebody who means harm.
const MOST_OPEN: i64 = 10_000;

/// A row of `allowance`, as the answer needs it.
pub(crate) struct Allowance {
    pub(crate) id: Uuid,
    pub(crate) granted: i32,
    pub(crate) expires_in_ms: i64,
}

/// How a request was answered, in the database.
pub(crate) enum Decision {
    /// Boxed, because the others are small.
    Granted(Box<Entitled>, Allowance),
    Denied(Refusal),
    /// It was decided before, and that does not stand any more. This is what was
    /// granted then.
    Void(Option<Uuid>),
}

/// What an attempt to decide comes to.
pub(crate) enum Attempt {
    Decided(Decision),
    /// Quotas of this tenant are used up, and somebody may give something back:
    /// nothing is answered yet.
    UsedUp(Tenant, Vec<UsageId>),
    /// The run has changed since it was read.
    Moved,
}

impl VaultService {
    /// Answers who is entitled with a new allowance: until the lease, the token or a
    /// window of a quota ends, by the database's clock; or says which quotas are used up.
    pub(crate) async fn open(
        &self,
        connection: &mut PgConnection,
        asker: &Asker,
        wish: &Wish,
        entitled: Box<Entitled>,
        may_come_back: bool,
    ) -> Result<Attempt, CallError> {
        let token = &entitled.visible.token;
        let charges = &entitled.charges;
        let usages: Vec<Uuid> = charges.iter().map(|it| it.usage.as_uuid()).collect();
        let descriptions: Vec<String> = charges.iter().map(|it| it.description.clone()).collect();
        let periods: Vec<Option<i64>> = charges.iter().map(|it| it.period).collect();
        let limits: Vec<Option<i64>> = charges.iter().map(|it| it.limit).collect();
        let denial = (!may_come_back).then_some(metrics::Answer::QuotaExhausted.as_str());
        let id = self.random_uuid()?;
        let done = sqlx::query!(
            r#"select moved as "moved!", too_many_open as "too_many_open!", granted, expires_in_ms,
                      exhausted, retry_in_ms
               from grant_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                                  $16, make_interval(secs => $17), $18, $19, $20, $21, $22)"#,
            asker.id.tenant.as_uuid(),
            asker.id.incarnation,
            asker.mac,
            asker.vouched_until as DbTime,
            wish.number,
            MOST_OPEN,
            denial,
            id,
            entitled.user.uid.as_uuid(),
            entitled.user.epoch,
            token.id.as_uuid(),
            token.epoch,
            i32::from(entitled.version.version),
            asker.service_account.as_str(),
            entitled.quota_epoch,
            wish.units,
            self.vault().lease().as_secs_f64(),
            token.expiration_time as Option<DbTime>,
            &usages,
            &descriptions,
            &periods as &[Option<i64>],
            &limits as &[Option<i64>],
        )
        .fetch_one(connection)
        .await?;
        if done.moved {
            return Ok(Attempt::Moved);
        }
        if done.too_many_open {
            return Err(CallError::TooManyOpen);
        }
        if let (Some(granted), Some(expires_in_ms)) = (done.granted, done.expires_in_ms) {
            let allowance = Allowance {
                id,
                granted,
                expires_in_ms,
            };
            return Ok(Attempt::Decided(Decision::Granted(entitled, allowance)));
        }
        let usages = done.exhausted.into_iter().flatten().map(UsageId::from);
        let usages: Vec<UsageId> = usages.collect();
        if may_come_back {
            return Ok(Attempt::UsedUp(asker.tenant.clone(), usages));
        }
        let refusal = Refusal::QuotaExhausted(Exhausted {
            names: quotas::limiting(charges, &usages),
            usages,
            retry_in_ms: done.retry_in_ms,
        });
        Ok(Attempt::Decided(Decision::Denied(refusal)))
    }
}

/// Answers with a denial, and counts it.
pub(crate) async fn deny(
    connection: &mut PgConnection,
    asker: &Asker,
    wish: &Wish,
    refusal: Refusal,
) -> Result<Attempt, CallError> {
    let done = sqlx::query_scalar!(
        r#"select deny_request($1, $2, $3, $4, $5, $6, $7) as "done!""#,
        asker.id.tenant.as_uuid(),
        asker.id.incarnation,
        asker.mac,
        asker.vouched_until as DbTime,
        wish.number,
        asker.service_account.as_str(),
        refusal.answer().as_str(),
    )
    .fetch_one(connection)
    .await?;
    Ok(match done {
        true => Attempt::Decided(Decision::Denied(refusal)),
        false => Attempt::Moved,
    })
}

/// The answer to a request that was answered before: the same, if it is still just
/// what would be granted now. Nothing is granted here and nothing taken back: this
/// may be a late repetition of a request whose answer has long arrived.
pub(crate) async fn again(
    connection: &mut PgConnection,
    asker: &Asker,
    entitled: Result<Box<Entitled>, Refusal>,
) -> Result<Decision, CallError> {
    let Some(earlier) = asker.last_allowance else {
        return Ok(match entitled {
            Ok(_) => Decision::Void(None),
            Err(refusal) => Decision::Denied(refusal),
        });
    };
    let found = sqlx::query!(
        r#"select granted, user_uid, user_epoch, token_id, token_epoch, version, quota_epoch,
                  state = 'Open' and expires_time > now() and not recalled as "stands!",
                  floor(extract(epoch from expires_time - now()) * 1000)::bigint as "ms!"
           from allowance
           where tenant_id = $1 and allowance_id = $2 and incarnation_id = $3"#,
        asker.id.tenant.as_uuid(),
        earlier,
        asker.id.incarnation,
    )
    .fetch_optional(connection)
    .await?;
    let Some(found) = found else {
        return Ok(Decision::Void(None));
    };
    let decided_on = (
        (found.user_uid, found.user_epoch),
        (found.token_id, found.token_epoch, found.version),
        found.quota_epoch,
    );
    Ok(match entitled {
        Ok(entitled) if found.stands && entitled.decided_on() == decided_on => {
            let allowance = Allowance {
                id: earlier,
                granted: found.granted,
                expires_in_ms: found.ms,
            };
            Decision::Granted(entitled, allowance)
        }
        _ => Decision::Void(Some(earlier)),
    })
}
