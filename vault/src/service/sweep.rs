//! The sweep: what brokers never accounted for, and who stayed away.
//!
//! Any replica sweeps; rows that another one is working on are skipped.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use crate::audit::{self, Outcome, Record};
use crate::db_time::DbTime;
use crate::error::Category;

/// Incarnations swept before the next look at the rest.
const BATCH: i64 = 100;
/// With fewer days ahead that records can be written in, a person is called.
const FEWEST_DAYS_AHEAD: i64 = 2;
/// A round that takes longer than its interval and this was held up.
const LONGEST_ROUND: Duration = Duration::from_secs(10);

impl VaultService {
    /// Sweeps for as long as the service runs.
    pub(crate) async fn sweep(self) {
        let mut contact = Contact::default();
        let interval = self.settings().sweep_interval;
        loop {
            let began = Instant::now();
            tokio::time::sleep(interval).await;
            match self.sweep_once(contact.lasted).await {
                Ok(()) => contact.round(interval, began.elapsed()),
                Err(error) => {
                    contact.lost();
                    self.note_failure(&error);
                }
            }
        }
    }

    async fn sweep_once(&self, in_contact: Duration) -> Result<(), CallError> {
        self.count_attached().await?;
        self.count_open().await?;
        self.provide_partitions().await?;
        if in_contact >= self.review_period() + self.settings().review_grace {
            self.fence_overdue().await?;
        }
        if in_contact >= self.grace() {
            self.lapse_all().await?;
        }
        Ok(())
    }

    fn note_failure(&self, error: &CallError) {
        self.metrics().failed_sweeps.inc();
        tracing::warn!(cause = %error.cause(), "a sweep failed; trying again");
    }

    /// How long after its end an allowance lapses: a broker has that long to report.
    fn grace(&self) -> Duration {
        self.vault().lease() + self.settings().lapse_grace
    }

    /// Each incarnation once, in the order of ids, so that one that cannot be
    /// swept does not keep others waiting.
    async fn lapse_all(&self) -> Result<(), CallError> {
        let grace = self.grace().as_secs_f64();
        let mut last = (Uuid::nil(), Uuid::nil());
        loop {
            let due = sqlx::query!(
                "select distinct tenant_id, incarnation_id from allowance
                 where state = 'Open' and expires_time < now() - make_interval(secs => $1)
                   and (tenant_id, incarnation_id) > ($2, $3)
                 order by tenant_id, incarnation_id limit $4",
                grace,
                last.0,
                last.1,
                BATCH,
            )
            .fetch_all(self.vault().pool())
            .await?;
            let Some(row) = due.last() else {
                return Ok(());
            };
            last = (row.tenant_id, row.incarnation_id);
            for row in &due {
                let swept = self.lapse(row.tenant_id, row.incarnation_id, grace).await;
                match self.on_record(swept).await {
                    Err(error) if !is_outage(&error) => self.note_failure(&error),
                    swept => swept?,
                }
            }
        }
    }

    /// Lapses one incarnation's allowances, and records what they leave open. What quotas
    /// count of it stays charged, and the service account's next allowances are small.
    async fn lapse(&self, tenant: Uuid, incarnation: Uuid, grace: f64) -> Result<(), CallError> {
        let Some(keys) = self.vault().keys_by_id(tenant.into()).await? else {
            return Ok(());
        };
        let mut transaction = self.vault().begin().await?;
        if !lock(&mut transaction, tenant, incarnation).await? {
            return Ok(());
        }
        let lapsed = sqlx::query!(
            r#"with lapsed as (
                   update allowance set state = 'Lapsed', closed_time = clock_timestamp()
                   where tenant_id = $1 and incarnation_id = $2 and state = 'Open'
                     and expires_time < now() - make_interval(secs => $3)
                   returning *
               ), uncharged as (
                   update allowance_charge c set open = false from lapsed l
                   where c.tenant_id = l.tenant_id and c.allowance_id = l.allowance_id
                   returning l.tenant_id, l.service_account_name, l.granted > l.used as lost
               ), slowed as (
                   insert into slow_start (tenant_id, service_account_name, units)
                   select distinct tenant_id, service_account_name, 1 from uncharged where lost
                   on conflict (tenant_id, service_account_name) do update set units = 1
               )
               select allowance_id, user_uid, token_id, version, service_account_name,
                      granted - used as "unaccounted!", granted_time as "granted_time: DbTime",
                      expires_time as "expires_time: DbTime"
               from lapsed order by granted_time"#,
            tenant,
            incarnation,
            grace,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let accesses = lapsed
            .iter()
            .map(|row| u64::from(row.unaccounted.unsigned_abs()));
        let accesses: u64 = accesses.sum();
        let allowances = lapsed.len() as u64;
        let open = lapsed.into_iter().filter(|row| row.unaccounted > 0);
        let records: Vec<Record> = open
            .map(|row| Record {
                allowance_id: Some(row.allowance_id),
                user_uid: Some(row.user_uid),
                token_id: Some(row.token_id),
                version: Some(row.version),
                service_account_name: row.service_account_name,
                count: row.unaccounted,
                ..Record::new(Outcome::Unaccounted, row.granted_time, row.expires_time)
            })
            .collect();
        let written = records.len() as u64;
        audit::append(&mut transaction, &keys, incarnation, records).await?;
        transaction.commit().await?;
        self.metrics().lapsed.inc_by(allowances);
        self.metrics().records.inc_by(written);
        self.metrics().unaccounted.inc_by(accesses);
        if accesses > 0 {
            tracing::warn!(%tenant, %incarnation, accesses, "a broker never accounted for accesses");
        }
        Ok(())
    }

    /// Ends incarnations that did not come back to be reviewed. Who comes back while the
    /// API server is away has come back.
    async fn fence_overdue(&self) -> Result<(), CallError> {
        let grace = self.settings().review_grace.as_secs_f64();
        let tenants = sqlx::query_scalar!(
            "select distinct tenant_id from incarnation
             where fenced_time is null
               and greatest(review_due_time, unreviewed_time) + make_interval(secs => $1)
                   < now()",
            grace,
        )
        .fetch_all(self.vault().pool())
        .await?;
        // One at a time: no transaction spans two tenants.
        for tenant in tenants {
            sqlx::query!(
                "update incarnation set fenced_time = now()
                 where tenant_id = $1 and incarnation_id in (
                     select incarnation_id from incarnation
                     where tenant_id = $1 and fenced_time is null
                       and greatest(review_due_time, unreviewed_time)
                           + make_interval(secs => $2) < now()
                     for no key update skip locked)",
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

    async fn count_open(&self) -> Result<(), CallError> {
        let open = sqlx::query_scalar!(
            r#"select count(*) as "count!" from allowance where state = 'Open'"#
        )
        .fetch_one(self.vault().pool())
        .await?;
        self.metrics().allowances_open.set(open);
        Ok(())
    }

    async fn provide_partitions(&self) -> Result<(), CallError> {
        let ahead = i64::from(audit::provide_partitions(self.vault().pool()).await?);
        let before = self.metrics().audit_days_ahead.set(ahead);
        if ahead < FEWEST_DAYS_AHEAD && ahead != before {
            tracing::error!(
                ahead,
                "ACCESSES CANNOT BE RECORDED SOON: there are no partitions of access_record for \
                 the next days; look for why create_audit_partitions() fails"
            );
        }
        Ok(())
    }
}

/// How long this replica has had the database without a break. Brokers that
/// could not attach or report while it was away get the full time afterwards.
#[derive(Default)]
struct Contact {
    lasted: Duration,
}

impl Contact {
    /// A round of the sweep succeeded, `took` after the one before.
    fn round(&mut self, interval: Duration, took: Duration) {
        // Whatever held it up for so long may have held up brokers too.
        self.lasted = if took > interval + LONGEST_ROUND {
            Duration::ZERO
        } else {
            self.lasted.saturating_add(interval)
        };
    }

    fn lost(&mut self) {
        self.lasted = Duration::ZERO;
    }
}

/// Whether the database is away, and not one row at fault.
pub(super) fn is_outage(error: &CallError) -> bool {
    matches!(error, CallError::Store(cause) if cause.category() == Category::Unavailable)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Contact, LONGEST_ROUND};

    #[test]
    fn a_round_that_was_held_up_breaks_the_contact() {
        let interval = Duration::from_secs(5);
        let mut contact = Contact::default();
        for _ in 0..3 {
            contact.round(interval, interval + LONGEST_ROUND);
        }
        assert_eq!(contact.lasted, interval * 3);
        contact.round(
            interval,
            interval + LONGEST_ROUND + Duration::from_millis(1),
        );
        assert_eq!(contact.lasted, Duration::ZERO);
        contact.round(interval, interval);
        contact.lost();
        assert_eq!(contact.lasted, Duration::ZERO);
    }
}
