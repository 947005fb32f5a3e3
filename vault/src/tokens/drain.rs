//! Who still holds what was taken back.

use bursar_seal::{TokenId, TokenVersion};

use crate::db_time::DbTime;
use crate::error::DatabaseError;
use crate::service::LAPSE_GRACE;
use crate::tenant::Tenant;
use crate::vault::Vault;

/// How far brokers have let go of a token's dead versions: of those that are revoked, and of all
/// of them when the token is deleted or its user suspended.
///
/// Brokers count once each, by what they held when the last version died or later. None of this
/// is authenticated: it is for people to read, and decides nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drain {
    /// Every version up to this one is revoked.
    pub through_version: Option<TokenVersion>,
    /// When the last of it was taken back: the newest of the times at which a version died, the
    /// token was deleted or its user suspended. Another one means that more was taken back.
    pub taken_back_time: Option<DbTime>,
    /// Brokers that have not accounted for all they hold of a dead version.
    pub brokers_open: i64,
    /// When the last of them has accounted for it or is recorded as not accounted for, by the
    /// database's clock and as long as that can be reached; `None` when there is none. No broker
    /// serves anything after its own allowance has ended, which is earlier.
    pub certain_time: Option<DbTime>,
    /// Brokers that gave back all they held.
    pub brokers_confirmed: i64,
    /// Brokers that never did, and whose allowances have lapsed.
    pub brokers_lapsed: i64,
    /// The last access to a dead version on record, by its broker's clock. Looked for among what
    /// was recorded around the time when the last version died: from as long before as an
    /// allowance may be open, until a day after all of them had lapsed.
    pub last_served_time: Option<DbTime>,
}

impl Drain {
    /// True when no broker holds any of it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.brokers_open == 0
    }
}

impl Vault {
    /// How far brokers have let go of a token's dead versions. Nothing of a token that is not in
    /// the vault. One query.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn drain(&self, tenant: &Tenant, token: TokenId) -> Result<Drain, DatabaseError> {
        // An allowance lapses this long after its end.
        let grace = self.lease() + LAPSE_GRACE;
        let drain = sqlx::query!(
            r#"with revoked as (
                   select greatest(t.through_version, t.api_through_version) as through_version,
                          t.deleted_time is not null or u.deleted_time is not null
                              or u.suspended as all_dead,
                          greatest(t.deleted_time, u.deleted_time, u.suspended_time) as dead_time
                   from token t
                   join token_user u on u.tenant_id = t.tenant_id and u.user_uid = t.user_uid
                   where t.tenant_id = $1 and t.token_id = $2
               ), dead as (
                   select v.version, v.dead_time
                   from revoked t, token_version v
                   where v.tenant_id = $1 and v.token_id = $2
                     and (t.all_dead or v.version <= t.through_version or v.state <> 'Live')
               ), since as materialized (
                   select greatest((select dead_time from revoked),
                                   (select max(dead_time) from dead)) as since
               ), held as (
                   select incarnation_id, version, state, expires_time from allowance
                   where tenant_id = $1 and token_id = $2 and state = 'Open'
                   union all
                   select incarnation_id, version, state, null from allowance
                   where tenant_id = $1 and token_id = $2 and state <> 'Open'
                     and closed_time >= (select since from since)
               ), broker as (
                   select bool_or(state = 'Open') as is_open, bool_or(state = 'Lapsed') as has_lapsed,
                          max(expires_time) as expires_time
                   from held join dead using (version)
                   group by incarnation_id
               )
               select (select through_version from revoked) as through_version,
                      (select since from since) as "taken_back_time: DbTime",
                      count(*) filter (where is_open) as "brokers_open!",
                      max(expires_time) + make_interval(secs => $3) as "certain_time: DbTime",
                      count(*) filter (where not is_open and not has_lapsed)
                          as "brokers_confirmed!",
                      count(*) filter (where not is_open and has_lapsed) as "brokers_lapsed!",
                      (select max(last_time) from access_record join dead using (version)
                       where tenant_id = $1 and token_id = $2 and outcome = 'Served'
                         and recorded_time >= (select since from since)
                                              - make_interval(secs => $3)
                         and recorded_time < (select since from since)
                                             + make_interval(secs => $3) + interval '1 day')
                          as "last_served_time: DbTime"
               from broker"#,
            tenant.uuid(),
            token.as_uuid(),
            grace.as_secs_f64(),
        )
        .fetch_one(self.pool())
        .await?;
        Ok(Drain {
            through_version: drain
                .through_version
                .and_then(|version| version.try_into().ok()),
            taken_back_time: drain.taken_back_time,
            brokers_open: drain.brokers_open,
            certain_time: drain.certain_time,
            brokers_confirmed: drain.brokers_confirmed,
            brokers_lapsed: drain.brokers_lapsed,
            last_served_time: drain.last_served_time,
        })
    }
}
