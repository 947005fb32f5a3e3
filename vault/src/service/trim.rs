//! Deleting what has no more use, so that tables do not grow with all that ever was.
//!
//! Any replica trims: one tenant and one batch a transaction, and rows that another
//! one or a call has are skipped, so that no grant waits for it.

use sqlx::postgres::PgQueryResult;
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use super::sweep::is_outage;

/// Rows deleted in one transaction.
const BATCH: i64 = 500;

/// A batch of a tenant's rows that are old, which nothing else refers to.
macro_rules! delete_old {
    ($table:literal, $is_old:literal, $tenant:expr) => {
        sqlx::query!(
            "delete from "
                + $table
                + " where ctid = any(array(
                        select ctid from "
                + $table
                + " where tenant_id = $1 and "
                + $is_old
                + " limit $2 for update skip locked)) and tenant_id = $1",
            $tenant,
            BATCH,
        )
    };
}

impl VaultService {
    /// Trims for as long as the service runs.
    pub(crate) async fn trim(self) {
        loop {
            tokio::time::sleep(self.settings().trim_interval).await;
            if let Err(error) = self.trim_all().await {
                self.note_trim(&error);
            }
        }
    }

    async fn trim_all(&self) -> Result<(), CallError> {
        self.trim_changes().await?;
        let tenants = sqlx::query_scalar!("select tenant_id from tenant")
            .fetch_all(self.vault().pool())
            .await?;
        for tenant in tenants {
            match self.trim_tenant(tenant).await {
                Err(error) if !is_outage(&error) => self.note_trim(&error),
                trimmed => trimmed?,
            }
        }
        Ok(())
    }

    fn note_trim(&self, error: &CallError) {
        self.metrics().failed_trims.inc();
        tracing::warn!(cause = %error.cause(), "old rows stay for now; trying again");
    }

    async fn trim_tenant(&self, tenant: Uuid) -> Result<(), CallError> {
        while is_full(&self.trim_allowances(tenant).await?) {}
        while is_full(&self.trim_incarnations(tenant).await?) {}
        while is_full(&self.trim_windows(tenant).await?) {}
        while is_full(&self.trim_denials(tenant).await?) {}
        while is_full(&self.trim_denials_told(tenant).await?) {}
        while is_full(&self.trim_idempotency_keys(tenant).await?) {}
        Ok(())
    }

    /// Allowances a day after their end: closed ones, but for the answer that their
    /// incarnation may ask for again; and all of an incarnation that has been over
    /// for a day, since until then it may account for what lapsed.
    async fn trim_allowances(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            "with ended as (
                 select a.allowance_id from allowance a
                 join incarnation i on i.tenant_id = a.tenant_id
                                   and i.incarnation_id = a.incarnation_id
                 where a.tenant_id = $1 and a.state <> 'Open'
                   and a.expires_time < now() - interval '1 day'
                   and (i.fenced_time < now() - interval '1 day'
                        or a.state = 'Closed'
                           and i.last_allowance_id is distinct from a.allowance_id)
                 limit $2
                 for update of a skip locked
             ), uncharged as (
                 delete from allowance_charge c using ended e
                 where c.tenant_id = $1 and c.allowance_id = e.allowance_id
             )
             delete from allowance a using ended e
             where a.tenant_id = $1 and a.allowance_id = e.allowance_id",
            tenant,
            BATCH,
        )
        .execute(self.vault().pool())
        .await
    }

    /// Incarnations that are over, once retention has dropped their last record:
    /// until then they tell which pod it was.
    async fn trim_incarnations(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            "delete from incarnation
             where tenant_id = $1 and incarnation_id in (
                 select i.incarnation_id from incarnation i
                 where i.tenant_id = $1 and i.fenced_time < now() - interval '1 day'
                   and not exists (
                       select from allowance a
                       where a.tenant_id = $1 and a.incarnation_id = i.incarnation_id)
                   and not exists (
                       select from audit_chain h
                       where h.tenant_id = $1 and h.chain_id = i.incarnation_id
                         and h.boundary_no is distinct from h.record_no)
                 limit $2
                 for update skip locked)",
            tenant,
            BATCH,
        )
        .execute(self.vault().pool())
        .await
    }

    /// Windows of a quota that ended as long ago as records are kept.
    async fn trim_windows(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!(
            "delete from quota_window
             where tenant_id = $1 and (usage_id, window_no) in (
                 select w.usage_id, w.window_no from quota_window w
                 where w.tenant_id = $1
                   and w.end_time < now() - make_interval(days => (select days from audit_retention))
                   and not exists (
                       select from allowance_charge c
                       where c.tenant_id = $1 and c.usage_id = w.usage_id
                         and c.window_no = w.window_no)
                 limit $2
                 for update skip locked)",
            tenant,
            BATCH,
        )
        .execute(self.vault().pool())
        .await
    }

    /// Changes that everybody has read; who has not starts anew. All at once, so that
    /// nobody reads on over a gap.
    async fn trim_changes(&self) -> Result<PgQueryResult, sqlx::Error> {
        sqlx::query!("delete from change where changed_time < now() - interval '24 hours'")
            .execute(self.vault().pool())
            .await
    }

    /// Denials, counted by the hour, of a month ago.
    async fn trim_denials(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        delete_old!("denial", "hour < now() - interval '30 days'", tenant)
            .execute(self.vault().pool())
            .await
    }

    /// What a pod told of in an hour that is over takes no room in the next one.
    async fn trim_denials_told(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        delete_old!(
            "denial_told",
            "since_time < now() - interval '2 hours'",
            tenant
        )
        .execute(self.vault().pool())
        .await
    }

    /// Answers that were to be given again under their idempotency keys for a day.
    async fn trim_idempotency_keys(&self, tenant: Uuid) -> Result<PgQueryResult, sqlx::Error> {
        delete_old!(
            "idempotency_key",
            "counted_time < now() - interval '24 hours'",
            tenant
        )
        .execute(self.vault().pool())
        .await
    }
}

/// Whether there may be more.
fn is_full(batch: &PgQueryResult) -> bool {
    batch.rows_affected() >= BATCH.unsigned_abs()
}
