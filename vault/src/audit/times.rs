//! Times of records against those of checkpoints.
//!
//! A record is made at the time of the database's clock, or at that of the record before
//! where the clock was set back. So along a chain times never go back, and no record is
//! later than a checkpoint that was written behind it: a checkpoint, too, is made at the
//! clock's time, or just after the newest one of all where the clock was set back.
//!
//! A clock that ran ahead and is right again leaves records and checkpoints that are both
//! ahead, and these agree. Only what was recorded between the last checkpoint before it was
//! set back and that moment is later than the next checkpoint says, by as long as checkpoints
//! are apart: a minute and what they take, or a change of leader. That much is let pass. What
//! is further ahead was recorded by a clock that no checkpoint saw.

use bursar_seal::TenantId;
use sqlx::PgConnection;

use super::bad_place::{BadPlace, Wrong};
use crate::db_time::DbTime;

/// The first record of a chain whose checkpoints are verified that is later than the first
/// checkpoint behind it; or, where none is, later than now and than the newest checkpoint.
pub(crate) async fn first_ahead(
    snapshot: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<BadPlace>, sqlx::Error> {
    // Times do not go back along the chain: it is enough to look at what checkpoints name.
    let bound = sqlx::query!(
        r#"select h.chain_id, h.checkpoint_no, r.record_no as "record_no!",
                  r.recorded_time as "recorded_time!: DbTime"
           from checkpoint_head h
           join checkpoint k on k.tenant_id = h.tenant_id and k.checkpoint_no = h.checkpoint_no
           join access_record l on l.tenant_id = h.tenant_id and l.chain_id = h.chain_id
                               and l.record_no = h.record_no
                               and l.recorded_time > k.checkpoint_time + interval '5 minutes'
           cross join lateral (
               select record_no, recorded_time from access_record f
               where f.tenant_id = h.tenant_id and f.chain_id = h.chain_id
                 and f.recorded_time > k.checkpoint_time + interval '5 minutes'
               order by record_no limit 1
           ) as r
           where h.tenant_id = $1
           order by h.chain_id, h.record_no, h.checkpoint_no limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(&mut *snapshot)
    .await?;
    if let Some(row) = bound {
        return Ok(Some(BadPlace {
            chain_id: Some(row.chain_id),
            record_no: Some(row.record_no),
            checkpoint_no: Some(row.checkpoint_no),
            time: Some(row.recorded_time),
            wrong: Wrong::RecordAhead {
                checkpoint: row.checkpoint_no,
            },
        }));
    }
    let last = sqlx::query!(
        r#"select chain_id, record_no, recorded_time as "recorded_time: DbTime"
           from access_record
           where tenant_id = $1 and recorded_time > interval '5 minutes' + greatest(now(), (
               select max(checkpoint_time) from checkpoint where tenant_id = $1))
           order by chain_id, record_no limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(snapshot)
    .await?;
    Ok(last.map(|row| BadPlace {
        chain_id: Some(row.chain_id),
        record_no: Some(row.record_no),
        checkpoint_no: None,
        time: Some(row.recorded_time),
        wrong: Wrong::RecordOfTheFuture,
    }))
}
