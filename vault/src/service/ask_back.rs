//! Asking back: what some hold of a used-up quota and do not use, others wait for.

use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use crate::changes::{self, Change};
use crate::quotas::UsageId;
use crate::tenant::Tenant;

impl VaultService {
    /// Asks all who hold something of these usages for what is left of it. False when
    /// nobody holds anything: then nothing can come back.
    pub(super) async fn ask_back(
        &self,
        tenant: &Tenant,
        usages: &[UsageId],
    ) -> Result<bool, CallError> {
        let ids: Vec<Uuid> = usages.iter().map(|usage| usage.as_uuid()).collect();
        let mut transaction = self.vault().begin().await?;
        // Those that are locked are being reported, or asked for by another.
        let asked = sqlx::query!(
            "update allowance set recalled = true
             where tenant_id = $1 and allowance_id in (
                 select a.allowance_id from allowance a
                 join allowance_charge c
                     on c.tenant_id = a.tenant_id and c.allowance_id = a.allowance_id
                 where a.tenant_id = $1 and c.usage_id = any($2) and c.open
                   and a.state = 'Open' and not a.recalled
                 for no key update of a skip locked)",
            tenant.uuid(),
            &ids,
        )
        .execute(&mut *transaction)
        .await?;
        if asked.rows_affected() > 0 {
            let returns: Vec<_> = usages.iter().copied().map(Change::Return).collect();
            changes::append(&mut transaction, tenant.shard(), tenant.id(), &returns).await?;
        }
        transaction.commit().await?;
        let held = sqlx::query_scalar!(
            r#"select exists (select from allowance_charge
                              where tenant_id = $1 and usage_id = any($2) and open) as "held!""#,
            tenant.uuid(),
            &ids,
        )
        .fetch_one(self.vault().pool())
        .await?;
        Ok(held)
    }
}
