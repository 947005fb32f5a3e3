//! Which tokens nobody can read, because a limit that all their readers share is used up.

use std::collections::{HashMap, HashSet};

use bursar_seal::TokenId;
use uuid::Uuid;

use super::stored::Stored;
use super::usage::shared_limits;
use crate::error::VaultError;
use crate::names::{QuotaName, UserUid};
use crate::tenant::Tenant;
use crate::vault::Vault;

impl Vault {
    /// Those of a tenant's tokens, each with its user, whose readers share an enforced quota on
    /// accesses that is used up, with its name: one of the token itself, or of its user. What is
    /// granted and not used yet counts as used, as it does for the quota. Two queries for all of
    /// them, one where no quota is like that. A quota whose row is damaged says nothing here.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn exhausted(
        &self,
        tenant: &Tenant,
        tokens: &[(TokenId, UserUid)],
    ) -> Result<HashMap<TokenId, QuotaName>, VaultError> {
        let mut connection = self.pool().acquire().await?;
        let stored = Stored::read(&mut connection, tenant).await?;
        let limits: Vec<_> = tokens
            .iter()
            .flat_map(|(token, user)| {
                let limits = shared_limits(&stored.quotas, *user, *token);
                limits.into_iter().map(|limit| (*token, limit))
            })
            .collect();
        if limits.is_empty() {
            return Ok(HashMap::new());
        }
        let usages: Vec<Uuid> = limits.iter().map(|(_, it)| it.usage.as_uuid()).collect();
        let periods: Vec<Option<i64>> = limits.iter().map(|(_, it)| it.period).collect();
        let units: Vec<i64> = limits.iter().map(|(_, it)| it.limit).collect();
        let exhausted = sqlx::query_scalar!(
            r#"select place as "place!"
               from unnest($2::uuid[], $3::bigint[], $4::bigint[]) with ordinality
                    as u (usage_id, period_s, units, place)
               left join lateral (
                   select charged from quota_window w
                   where w.tenant_id = $1 and w.usage_id = u.usage_id
                     and w.window_no >= coalesce(floor(extract(epoch from now()))::bigint
                                                 / u.period_s, 0)
                   order by window_no desc limit 1
               ) as newest on true
               where coalesce(charged, 0) >= units"#,
            tenant.uuid(),
            &usages,
            &periods as &[Option<i64>],
            &units,
        )
        .fetch_all(&mut *connection)
        .await?;
        let exhausted: HashSet<i64> = exhausted.into_iter().collect();
        // Of several the first by name, so that the answer stays the same.
        let mut names: HashMap<TokenId, QuotaName> = HashMap::new();
        for (place, (token, limit)) in (1..).zip(limits) {
            if exhausted.contains(&place) {
                let name = names.entry(token).or_insert_with(|| limit.name.clone());
                if limit.name.as_str() < name.as_str() {
                    *name = limit.name;
                }
            }
        }
        Ok(names)
    }
}
