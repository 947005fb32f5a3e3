//! The sweep: what brokers never accounted for, and what is over.
//!
//! Any replica sweeps; rows that another one is working on are skipped.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;

/// Incarnations swept before the next look at the rest.
const BATCH: i64 = 100;
/// How long changes are kept, in hours; who has not read them by then starts anew.
const CHANGES_KEPT: i32 = 24;
/// The number under which records stand that no broker reported.
const NO_REPORT: i64 = 0;

impl VaultService {
    /// Sweeps for as long as the service runs.
    pub(crate) async fn sweep(self) {
        // How long this replica has had the database without a break. Brokers
        // that could not report while it was away get the full time afterwards.
        let mut in_contact = Duration::ZERO;
        let interval = self.settings().sweep_interval;
        loop {
            tokio::time::sleep(interval).await;
            match self.sweep_once(in_contact >= self.grace()).await {
                Ok(()) => in_contact = in_contact.saturating_add(interval),
                Err(error) => {
                    in_contact = Duration::ZERO;
                    self.metrics().failed_sweeps.inc();
                    tracing::warn!(cause = %error.cause(), "a sweep failed; trying again");
                }
            }
        }
    }

    async fn sweep_once(&self, may_lapse: bool) -> Result<(), CallError> {
        self.count_attached().await?;
        self.fence_overdue().await?;
        self.trim_changes().await?;
        if may_lapse {
            self.lapse_all().await?;
        }
        Ok(())
    }

    /// How long after its end an allowance lapses: a broker has that long to report.
    fn grace(&self) -> Duration {
        self.vault().lease() + self.settings().lapse_grace
    }

    async fn lapse_all(&self) -> Result<(), CallError> {
        let grace = self.grace().as_secs_f64();
        loop {
            let due = sqlx::query!(
                "select distinct tenant_id, incarnation_id from allowance
                 where state = 'Open' and expires_time < now() - make_interval(secs => $1)
                 limit $2",
                grace,
                BATCH,
            )
            .fetch_all(self.vault().pool())
            .await?;
            let mut lapsed = 0;
            for row in &due {
                lapsed += self.lapse(row.tenant_id, row.incarnation_id, grace).await?;
            }
            // The rest, if any, is another replica's.
            if lapsed == 0 {
                return Ok(());
            }
        }
    }

    /// Lapses one incarnation's allowances, and records what they leave open.
    async fn lapse(&self, tenant: Uuid, incarnation: Uuid, grace: f64) -> Result<u64, CallError> {
        let mut transaction = self.vault().pool().begin().await?;
        if !lock(&mut transaction, tenant, incarnation).await? {
            return Ok(0);
        }
        let unaccounted = sqlx::query!(
            r#"with lapsed as (
                   update allowance set state = 'Lapsed'
                   where tenant_id = $1 and incarnation_id = $2 and state = 'Open'
                     and expires_time < now() - make_interval(secs => $3)
                   returning *
               ), recorded as (
                   insert into access_record
                       (tenant_id, incarnation_id, report_seq, idx, allowance_id, user_uid,
                        token_id, version, service_account_name, outcome, app_name, purpose,
                        count, first_time, last_time)
                   select tenant_id, incarnation_id, $4,
                          (select coalesce(max(idx) + 1, 0) from access_record
                           where tenant_id = $1 and incarnation_id = $2 and report_seq = $4)
                              + row_number() over (order by granted_time) - 1,
                          allowance_id, user_uid, token_id, version, service_account_name,
                          'Unaccounted', '', '', granted - used, granted_time, expires_time
                   from lapsed where granted > used
                   returning count
               )
               select (select count(*) from lapsed) as "allowances!",
                      (select coalesce(sum(count), 0) from recorded) as "accesses!""#,
            tenant,
            incarnation,
            grace,
            NO_REPORT,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let (allowances, accesses) = (
            unaccounted.allowances.unsigned_abs(),
            unaccounted.accesses.unsigned_abs(),
        );
        self.metrics().unaccounted.inc_by(accesses);
        if accesses > 0 {
            tracing::warn!(%tenant, %incarnation, accesses, "a broker never accounted for accesses");
        }
        Ok(allowances)
    }

    /// Ends incarnations that did not come back to be reviewed.
    async fn fence_overdue(&self) -> Result<(), CallError> {
        let grace = self.settings().review_grace.as_secs_f64();
        let tenants = sqlx::query_scalar!(
            "select distinct tenant_id from incarnation
             where fenced_time is null
               and review_due_time + make_interval(secs => $1) < now()",
            grace,
        )
        .fetch_all(self.vault().pool())
        .await?;
        // One at a time: no transaction spans two tenants.
        for tenant in tenants {
            sqlx::query!(
                "update incarnation set fenced_time = now()
                 where tenant_id = $1 and fenced_time is null
                   and review_due_time + make_interval(secs => $2) < now()",
                tenant,
                grace,
            )
            .execute(self.vault().pool())
            .await?;
        }
        Ok(())
    }

    async fn count_attached(&self) -> Result<(), CallError> {
        let attached = sqlx::query_scalar!(
            r#"select count(*) as "count!" from incarnation where fenced_time is null"#
        )
        .fetch_one(self.vault().pool())
        .await?;
        self.set_attached(attached.unsigned_abs());
        Ok(())
    }

    async fn trim_changes(&self) -> Result<(), CallError> {
        sqlx::query!(
            "delete from change where changed_time < now() - make_interval(hours => $1)",
            CHANGES_KEPT,
        )
        .execute(self.vault().pool())
        .await?;
        Ok(())
    }
}

/// False when another replica or a call has the incarnation's row.
async fn lock(
    transaction: &mut PgConnection,
    tenant: Uuid,
    incarnation: Uuid,
) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query_scalar!(
        "select incarnation_id from incarnation
         where tenant_id = $1 and incarnation_id = $2
         for no key update skip locked",
        tenant,
        incarnation,
    )
    .fetch_optional(transaction)
    .await?;
    Ok(locked.is_some())
}
