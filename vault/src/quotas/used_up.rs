//! Which limits leave nothing to a read.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::usage::{Charge, UsageId};
use crate::tenant::Tenant;

/// Those counts whose limit is used up in the present window. What a broker was granted,
/// has not used, and was not asked to give back counts as left: it is served by its
/// holder, and whoever else reads is given it.
pub(crate) async fn used_up<'a>(
    connection: &mut PgConnection,
    tenant: &Tenant,
    charges: impl IntoIterator<Item = &'a Charge>,
) -> Result<HashSet<UsageId>, sqlx::Error> {
    let (mut usages, mut periods, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    for charge in charges {
        if let Some(limit) = charge.limit {
            usages.push(charge.usage.as_uuid());
            periods.push(charge.period);
            limits.push(limit);
        }
    }
    if usages.is_empty() {
        return Ok(HashSet::new());
    }
    let used_up = sqlx::query_scalar!(
        r#"select u.usage_id as "usage_id!"
           from unnest($2::uuid[], $3::bigint[], $4::bigint[]) as u (usage_id, period_s, units)
           left join lateral (
               select w.window_no, w.charged from quota_window w
               where w.tenant_id = $1 and w.usage_id = u.usage_id
                 and w.window_no >= coalesce(floor(extract(epoch from now()))::bigint
                                             / u.period_s, 0)
               order by w.window_no desc limit 1
           ) as newest on true
           where coalesce(newest.charged, 0) >= u.units
             and not exists (
               select from allowance_charge c
               join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
               where c.tenant_id = $1 and c.usage_id = u.usage_id
                 and c.window_no = newest.window_no and c.open
                 and not a.recalled and a.used < a.granted and a.expires_time > now())"#,
        tenant.uuid(),
        &usages as &[Uuid],
        &periods as &[Option<i64>],
        &limits,
    )
    .fetch_all(connection)
    .await?;
    Ok(used_up.into_iter().map(UsageId::from).collect())
}
