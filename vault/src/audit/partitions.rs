//! The days that records can be written in: a partition of `access_record` each.
//!
//! Without the partition of its day a record is refused, the report with it, and
//! the broker keeps both and tries again: nothing is lost, and no more is granted
//! once it can hold no more.

use sqlx::PgPool;

/// Partitions are made so many days ahead.
const DAYS_AHEAD: i32 = 7;

/// Makes what is missing, and tells for how many days after today there is a
/// partition; -1 when not even today has one.
///
/// # Errors
/// When the database is away or refuses to tell; when it refuses to make some,
/// that is logged.
pub(crate) async fn provide(pool: &PgPool) -> Result<i32, sqlx::Error> {
    let ahead = days_ahead(pool).await?;
    if ahead >= DAYS_AHEAD {
        return Ok(ahead);
    }
    let made = sqlx::query!("select create_audit_partitions()").execute(pool);
    if let Err(error) = made.await {
        tracing::warn!(%error, "the partitions of the next days cannot be made");
    }
    days_ahead(pool).await
}

async fn days_ahead(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce(min(n), $1 + 1) - 1 as "ahead!" from generate_series(0, $1) as n
           where not exists (
               select from pg_inherits
               where inhparent = 'public.access_record'::regclass
                 and inhrelid = to_regclass('public.access_record_' || to_char(
                     clock_timestamp() at time zone 'UTC' + make_interval(days => n), 'YYYYMMDD')))"#,
        DAYS_AHEAD,
    )
    .fetch_one(pool)
    .await
}
