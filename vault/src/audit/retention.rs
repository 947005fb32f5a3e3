//! Retention: records are dropped a whole day at a time, once they are old enough.
//!
//! A day at a time, the oldest first: a boundary of each tenant that has records
//! in it, then the day itself, in one step with the new beginning of the chains. It
//! may stop anywhere between, and goes on the next time.

use bursar_seal::TenantId;
use jiff::civil::Date;
use sqlx::PgConnection;

use crate::controllers::Controllers;
use crate::error::VaultError;

impl Controllers {
    /// Drops the records of all days behind the retention; tells of how many days.
    ///
    /// # Errors
    /// [`VaultError::TermSuperseded`]; [`VaultError::Integrity`] when a tenant has no
    /// boundary because its rows are damaged, and then its day stays; or when the
    /// database is away, or a reader holds the day up.
    pub async fn drop_expired_records(&self) -> Result<usize, VaultError> {
        let mut snapshot = self.snapshot().await?;
        let days = expired_days(&mut snapshot).await?;
        snapshot.commit().await?;
        for day in &days {
            self.drop_day(*day).await?;
        }
        Ok(days.len())
    }

    async fn drop_day(&self, day: Date) -> Result<(), VaultError> {
        let mut snapshot = self.snapshot().await?;
        let tenants = tenants_of(&mut snapshot, day).await?;
        snapshot.commit().await?;
        for tenant in &tenants {
            self.checkpoint_boundary(*tenant, day).await?;
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

/// The tenants that have records of a day, one by one along the primary key.
async fn tenants_of(
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
           select tenant_id as "tenant_id!" from found where tenant_id is not null"#,
        day.to_string(),
    )
    .fetch_all(connection)
    .await?;
    Ok(tenants.into_iter().map(TenantId::from).collect())
}
