//! Retention: records are dropped a whole day at a time, once they are old enough.
//!
//! A day at a time, the oldest first: a boundary of each tenant that has records
//! in it, then the day itself, in one step with the new beginning of the chains. What only
//! told of dropped records goes behind them. It may stop anywhere between, and goes on the
//! next time.

use bursar_seal::TenantId;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::controllers::Controllers;
use crate::db_time::db_now;
use crate::error::VaultError;

/// So far ahead of this machine's clock may the database's be, and what it wrote.
pub(super) const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(1);

impl Controllers {
    /// Drops the records of all days behind the retention, and what tells of nothing else;
    /// tells of how many days.
    ///
    /// # Errors
    /// [`VaultError::TermSuperseded`]; [`VaultError::Integrity`] when a tenant has no
    /// boundary because its rows are damaged, and then its day stays;
    /// [`VaultError::ClocksApart`]; or when the database is away, or a reader holds the day
    /// up.
    pub async fn drop_expired_records(&self) -> Result<usize, VaultError> {
        let mut snapshot = self.snapshot().await?;
        let days = expired_days(&mut snapshot).await?;
        let database = db_now(&mut snapshot).await?.timestamp();
        snapshot.commit().await?;
        if !days.is_empty() {
            self.check_clock(database)?;
        }
        for day in &days {
            self.drop_day(*day).await?;
        }
        self.trim().await?;
        Ok(days.len())
    }

    /// What is dropped by a clock that ran ahead does not come back, nor does a checkpoint
    /// of its time go away.
    pub(super) fn check_clock(&self, database: Option<Timestamp>) -> Result<(), VaultError> {
        let here = self.vault().clock().now();
        let database = database.unwrap_or(Timestamp::MAX);
        if database.duration_since(here) > CLOCKS_APART {
            return Err(VaultError::ClocksApart { database, here });
        }
        Ok(())
    }

    async fn drop_day(&self, day: Date) -> Result<(), VaultError> {
        let mut snapshot = self.snapshot().await?;
        let tenants = tenants_without_boundary(&mut snapshot, day).await?;
        snapshot.commit().await?;
        let mut failed = None;
        for tenant in &tenants {
            match self.checkpoint_boundary(*tenant, day).await {
                Ok(_) => {}
                Err(error) if error.is_everybodys() => return Err(error),
                Err(error) => {
                    tracing::error!(%tenant, %day, "there is no boundary: {error}");
                    failed.get_or_insert(error);
                }
            }
        }
        // Nor are later days dropped: a chain has one beginning.
        if let Some(error) = failed {
            return Err(error);
        }
        let mut transaction = self.begin().await?;
        sqlx::query_scalar!(
            "select drop_audit_partition($1::text::date)",
            day.to_string()
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        tracing::info!(%day, tenants = tenants.len(), "records behind the retention were dropped");
        Ok(())
    }

    /// Deletes the heads of checkpoints, and the chains of runs that are gone, that name
    /// only dropped records: one batch a transaction, and no report waits for it.
    async fn trim(&self) -> Result<(), VaultError> {
        let tenants = sqlx::query_scalar!("select tenant_id from tenant")
            .fetch_all(self.vault().pool())
            .await?;
        for tenant in tenants {
            let mut next = Some(0);
            while let Some(after) = next {
                next = self.trim_checkpoint_heads(tenant, after).await?;
            }
            while self.trim_audit_chains(tenant).await? > 0 {}
        }
        Ok(())
    }

    /// The checkpoint behind which to go on, if there is more.
    async fn trim_checkpoint_heads(
        &self,
        tenant: Uuid,
        after: i64,
    ) -> Result<Option<i64>, VaultError> {
        let mut transaction = self.begin().await?;
        let next = sqlx::query_scalar!("select trim_checkpoint_heads($1, $2)", tenant, after)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(next)
    }

    /// How many chains were deleted.
    async fn trim_audit_chains(&self, tenant: Uuid) -> Result<i64, VaultError> {
        let mut transaction = self.begin().await?;
        let trim = sqlx::query_scalar!(r#"select trim_audit_chains($1) as "deleted!""#, tenant);
        let deleted = trim.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(deleted)
    }
}

/// The days of partitions behind the retention, the oldest first.
async fn expired_days(connection: &mut PgConnection) -> Result<Vec<Date>, sqlx::Error> {
    let days = sqlx::query_scalar!(
        r#"select to_char(day, 'YYYY-MM-DD') as "day!"
           from pg_inherits join pg_class on pg_class.oid = inhrelid,
                to_date(right(relname, 8), 'YYYYMMDD') as day
           where inhparent = 'public.access_record'::regclass
             and day < (clock_timestamp() at time zone 'UTC')::date
                           - (select days from audit_retention)
           order by day"#,
    )
    .fetch_all(connection)
    .await?;
    let parsed = days.iter().map(|day| day.parse());
    parsed
        .collect::<Result<_, jiff::Error>>()
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

/// The tenants that have records of a day, one by one along the primary key, but for those
/// with a boundary that was written once the day was over. What is there of a tenant that
/// never was is nobody's.
async fn tenants_without_boundary(
    connection: &mut PgConnection,
    day: Date,
) -> Result<Vec<TenantId>, sqlx::Error> {
    let tenants = sqlx::query_scalar!(
        r#"with recursive bounds as (
               select $1::text::date::timestamp at time zone 'UTC' as begin_time,
                      ($1::text::date + 1)::timestamp at time zone 'UTC' as end_time
           ), found as (
               (select tenant_id from access_record, bounds
                where recorded_time >= begin_time and recorded_time < end_time
                order by tenant_id limit 1)
               union all
               select (select r.tenant_id from access_record r, bounds
                       where r.recorded_time >= begin_time and r.recorded_time < end_time
                         and r.tenant_id > found.tenant_id
                       order by r.tenant_id limit 1)
               from found where found.tenant_id is not null
           )
           select t.tenant_id from found join tenant t on t.tenant_id = found.tenant_id
           where not exists (
               select from checkpoint c
               where c.tenant_id = t.tenant_id and c.kind = 'Boundary'
                 and c.through_day = $1::text::date
                 and c.checkpoint_time >= ($1::text::date + 2)::timestamp at time zone 'UTC')"#,
        day.to_string(),
    )
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from).collect())
}
