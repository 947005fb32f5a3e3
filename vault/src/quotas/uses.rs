//! How much of a quota is used.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::usage::{Concern, UsageId};
use crate::db_time::DbTime;
use crate::tenant::Tenant;

/// How a count stands in its present window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    pub(crate) window_no: i64,
    pub(crate) used: i64,
    /// `None` when the window does not end.
    pub(crate) window_end_time: Option<DbTime>,
}

/// How the counts of these quotas stand.
pub(crate) async fn uses(
    connection: &mut PgConnection,
    tenant: &Tenant,
    concerns: &[Concern<'_>],
) -> Result<HashMap<UsageId, Use>, sqlx::Error> {
    let usages: Vec<Uuid> = concerns.iter().map(|it| it.usage.as_uuid()).collect();
    let windows = concerns.iter().map(|it| it.quota.window.period());
    let periods: Vec<Option<i64>> = windows.collect();
    let rows = sqlx::query!(
        r#"select u.usage_id as "usage_id!", present.window_no as "window_no!",
                  coalesce(w.charged, 0) as "used!",
                  to_timestamp((present.window_no + 1) * u.period_s) as "end_time: DbTime"
           from unnest($2::uuid[], $3::bigint[]) as u (usage_id, period_s)
           cross join lateral (
               -- A clock that was set back does not open an old window again.
               select greatest(coalesce(floor(extract(epoch from now()))::bigint / u.period_s, 0),
                               (select max(q.window_no) from quota_window q
                                where q.tenant_id = $1 and q.usage_id = u.usage_id)) as window_no
           ) as present
           left join quota_window w on w.tenant_id = $1 and w.usage_id = u.usage_id
                                   and w.window_no = present.window_no"#,
        tenant.uuid(),
        &usages,
        &periods as &[Option<i64>],
    )
    .fetch_all(connection)
    .await?;
    let uses = rows.into_iter().map(|row| {
        let present = Use {
            window_no: row.window_no,
            used: row.used,
            window_end_time: row.end_time,
        };
        (UsageId::from(row.usage_id), present)
    });
    Ok(uses.collect())
}
