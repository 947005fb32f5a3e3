//! How much of what is counted as used is only held.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::usage::UsageId;
use crate::tenant::Tenant;

/// Of the counts in these windows, the units that open allowances are good for and that nobody
/// has reported as used. Counts of which nothing is held are left out.
pub(super) async fn held(
    connection: &mut PgConnection,
    tenant: &Tenant,
    windows: impl IntoIterator<Item = (UsageId, i64)>,
) -> Result<HashMap<UsageId, i64>, sqlx::Error> {
    let (usages, numbers): (Vec<Uuid>, Vec<i64>) = windows
        .into_iter()
        .map(|(usage, window_no)| (usage.as_uuid(), window_no))
        .unzip();
    let rows = sqlx::query!(
        r#"select c.usage_id, sum(a.granted - a.used)::bigint as "held!"
           from unnest($2::uuid[], $3::bigint[]) as w (usage_id, window_no)
           join allowance_charge c on c.tenant_id = $1 and c.usage_id = w.usage_id
                                  and c.window_no = w.window_no and c.open
           join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
           group by c.usage_id"#,
        tenant.uuid(),
        &usages,
        &numbers,
    )
    .fetch_all(connection)
    .await?;
    let held = rows.into_iter().map(|row| (row.usage_id.into(), row.held));
    Ok(held.collect())
}
