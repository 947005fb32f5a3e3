//! Verifying: whether the audit of a tenant is what was written.
//!
//! All is read in one snapshot, so that it may go on growing meanwhile, and as a
//! stream, so that its length costs no memory. First the checkpoints, for what
//! follows believes them; then each chain from its beginning, with its head; then
//! the chains against the checkpoints; then the checkpoints against what is
//! kept outside the database; at last the times of records against those of
//! checkpoints. The first place that is wrong ends it.

use bursar_seal::{AuditKey, TenantId};
use futures::TryStreamExt;
use sqlx::PgConnection;

use super::anchor::Anchor;
use super::bad_place::{BadPlace, Verification, Wrong};
use super::chain::NO_MAC;
use super::checkpoint::{CheckpointRow, HeadsDigest};
use super::times;
use super::walk::{Step, Walk};
use crate::db_time::DbTime;
use crate::error::VaultError;
use crate::integrity::IntegrityFailure;
use crate::vault::Vault;

impl Vault {
    /// Goes through all records and checkpoints of a tenant. `anchor` is what was kept
    /// outside the database; read it before this is called. What was cut since the last
    /// checkpoint, with the head of its chain set back, is not found.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when the tenant's row or its audit key is not
    /// what the vault wrote; or when the database is away.
    pub async fn verify_audit(
        &self,
        tenant: TenantId,
        anchor: Option<&Anchor>,
    ) -> Result<Verification, VaultError> {
        let keys = self
            .keys_by_id(tenant)
            .await?
            .ok_or_else(|| IntegrityFailure::new(tenant, "tenant", tenant.to_string(), &[]))?;
        let begin = "begin isolation level repeatable read read only";
        let mut snapshot = self.begin_reading(begin).await?;
        // Before the snapshot is taken: a day that is dropped behind it is missed.
        sqlx::query("lock table only access_record in access share mode")
            .execute(&mut *snapshot)
            .await?;
        let key = keys.audit_key(&mut snapshot).await?;
        let mut found = Verification {
            records: 0,
            chains: 0,
            checkpoints: 0,
            first_bad: None,
        };
        found.first_bad = verify(&mut snapshot, tenant, key, anchor, &mut found).await?;
        Ok(found)
    }
}

async fn verify(
    snapshot: &mut PgConnection,
    tenant: TenantId,
    key: &AuditKey,
    anchor: Option<&Anchor>,
    found: &mut Verification,
) -> Result<Option<BadPlace>, sqlx::Error> {
    if let Some(bad) = checkpoints(snapshot, tenant, key, found).await? {
        return Ok(Some(bad));
    }
    if let Some(bad) = chains(snapshot, tenant, key, found).await? {
        return Ok(Some(bad));
    }
    if let Some(bad) = chains_without_records(snapshot, tenant).await? {
        return Ok(Some(bad));
    }
    if let Some(bad) = against_checkpoints(snapshot, tenant).await? {
        return Ok(Some(bad));
    }
    if let Some(bad) = boundaries(snapshot, tenant).await? {
        return Ok(Some(bad));
    }
    if let Some(anchor) = anchor
        && Anchor::at(snapshot, anchor.checkpoint_time).await? != *anchor
    {
        return Ok(Some(BadPlace {
            chain_id: None,
            record_no: None,
            checkpoint_no: None,
            time: Some(anchor.checkpoint_time),
            wrong: Wrong::NotAnchored,
        }));
    }
    // Last, so that a clock that was wrong once hides nothing of what somebody did.
    times::first_ahead(snapshot, tenant).await
}

/// A checkpoint, and the heads of it that are there.
struct Bound {
    row: CheckpointRow,
    digest: HeadsDigest,
    has_heads: bool,
    may_be_trimmed: bool,
}

impl Bound {
    fn heads_fit(self) -> bool {
        self.may_be_trimmed && !self.has_heads || self.digest.finish() == self.row.heads_digest
    }
}

/// The chain of checkpoints, each with the heads that it binds: all of them, or none when
/// retention deleted them. It may for a regular one with a boundary behind it that goes up
/// to its day or further: what it names had been recorded before, and was dropped or is bound
/// there. The time that counts is the latest so far, whatever a clock that was set back said.
async fn checkpoints(
    snapshot: &mut PgConnection,
    tenant: TenantId,
    key: &AuditKey,
    found: &mut Verification,
) -> Result<Option<BadPlace>, sqlx::Error> {
    let mut rows = sqlx::query!(
        r#"select checkpoint_no as "checkpoint_no!", checkpoint_time as "checkpoint_time?: DbTime",
                  kind as "kind?", to_char(through_day, 'YYYY-MM-DD') as through_day,
                  heads_digest as "heads_digest?", secret_version as "secret_version?",
                  c.mac as "mac?", chain_id as "chain_id?", record_no as "record_no?",
                  h.mac as "head_mac?",
                  coalesce(kind = 'Regular' and latest_time < (boundary_day + 1)::timestamp
                                                              at time zone 'UTC',
                           false) as "may_be_trimmed!"
           from (select *, max(checkpoint_time) over (order by checkpoint_no) as latest_time,
                        max(through_day) over (order by checkpoint_no desc
                            rows between unbounded preceding and 1 preceding) as boundary_day
                 from checkpoint where tenant_id = $1) as c
           full join (select * from checkpoint_head where tenant_id = $1) as h
               using (tenant_id, checkpoint_no)
           order by checkpoint_no, chain_id"#,
        tenant.as_uuid(),
    )
    .fetch(snapshot);
    let bad = |number, time, wrong| BadPlace {
        chain_id: None,
        record_no: None,
        checkpoint_no: Some(number),
        time,
        wrong,
    };
    let bad_heads = |last: Bound| {
        let (number, time) = (last.row.checkpoint_no, last.row.checkpoint_time);
        (!last.heads_fit()).then(|| bad(number, Some(time), Wrong::CheckpointHeadsChanged))
    };
    let mut previous = NO_MAC;
    let mut last: Option<Bound> = None;
    while let Some(row) = rows.try_next().await? {
        let number = row.checkpoint_no;
        let is_new = last
            .as_ref()
            .is_none_or(|last| last.row.checkpoint_no != number);
        if is_new {
            let before = last.as_ref().map_or(0, |last| last.row.checkpoint_no);
            if let Some(bad) = last.take().and_then(bad_heads) {
                return Ok(Some(bad));
            }
            let expected = before.saturating_add(1);
            let (Some(checkpoint_time), Some(kind), Some(heads_digest), Some(version), Some(mac)) = (
                row.checkpoint_time,
                row.kind,
                row.heads_digest,
                row.secret_version,
                row.mac,
            ) else {
                let missing = expected.min(number);
                return Ok(Some(bad(missing, None, Wrong::CheckpointRemoved)));
            };
            let checkpoint = CheckpointRow {
                tenant_id: tenant.as_uuid(),
                checkpoint_no: number,
                checkpoint_time,
                kind,
                through_day: row.through_day,
                heads_digest,
                secret_version: version,
                mac,
            };
            if number > expected {
                return Ok(Some(bad(expected, None, Wrong::CheckpointRemoved)));
            }
            let fits = number == expected
                && key
                    .verify(&previous, &checkpoint.content(), &checkpoint.mac)
                    .is_ok();
            let changed = || bad(number, Some(checkpoint_time), Wrong::CheckpointChanged);
            let Ok(mac) = <[u8; 32]>::try_from(&checkpoint.mac[..]) else {
                return Ok(Some(changed()));
            };
            if !fits {
                return Ok(Some(changed()));
            }
            found.checkpoints += 1;
            previous = mac;
            last = Some(Bound {
                row: checkpoint,
                digest: HeadsDigest::new(),
                has_heads: false,
                may_be_trimmed: row.may_be_trimmed,
            });
        }
        if let (Some(last), Some(chain), Some(record_no), Some(mac)) =
            (&mut last, row.chain_id, row.record_no, row.head_mac)
        {
            last.has_heads = true;
            last.digest.add(chain, record_no, &mac);
        }
    }
    Ok(last.and_then(bad_heads))
}

/// Each chain that has records, from its beginning to its head.
async fn chains(
    snapshot: &mut PgConnection,
    tenant: TenantId,
    key: &AuditKey,
    found: &mut Verification,
) -> Result<Option<BadPlace>, sqlx::Error> {
    let mut steps = sqlx::query_as::<_, Step>(
        "select r.*, h.record_no as head_no, h.recorded_time as head_time, h.mac as head_mac,
                h.boundary_no, h.boundary_mac
         from access_record r
         left join audit_chain h on h.tenant_id = r.tenant_id and h.chain_id = r.chain_id
         where r.tenant_id = $1
         order by r.chain_id, r.record_no, r.recorded_time",
    )
    .bind(tenant.as_uuid())
    .fetch(snapshot);
    let mut walk = Walk::new(key);
    while let Some(step) = steps.try_next().await? {
        let bad = walk.step(step);
        (found.records, found.chains) = (walk.records, walk.chains);
        if bad.is_some() {
            return Ok(bad);
        }
    }
    Ok(walk.end())
}

/// Chains that should have records, and beginnings that no boundary tells of.
async fn chains_without_records(
    snapshot: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<BadPlace>, sqlx::Error> {
    let invented = sqlx::query!(
        r#"select chain_id, boundary_no as "boundary_no!" from audit_chain h
           where tenant_id = $1 and boundary_no is not null and not exists (
               select from checkpoint_head c
               join checkpoint k on k.tenant_id = c.tenant_id
                                and k.checkpoint_no = c.checkpoint_no and k.kind = 'Boundary'
               where c.tenant_id = h.tenant_id and c.chain_id = h.chain_id
                 and c.record_no = h.boundary_no and c.mac = h.boundary_mac)
           order by chain_id limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(&mut *snapshot)
    .await?;
    if let Some(row) = invented {
        return Ok(Some(BadPlace {
            chain_id: Some(row.chain_id),
            record_no: Some(row.boundary_no),
            checkpoint_no: None,
            time: None,
            wrong: Wrong::BoundaryInvented,
        }));
    }
    let empty = sqlx::query!(
        r#"select chain_id, record_no, coalesce(boundary_no, 0) as "boundary_no!",
                  recorded_time as "recorded_time: DbTime"
           from audit_chain h
           where tenant_id = $1
             and (record_no, mac) is distinct from (boundary_no, boundary_mac)
             and not exists (
                 select from access_record r
                 where r.tenant_id = h.tenant_id and r.chain_id = h.chain_id)
           order by chain_id limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(&mut *snapshot)
    .await?;
    Ok(empty.map(|row| BadPlace {
        chain_id: Some(row.chain_id),
        record_no: Some(row.boundary_no.saturating_add(1)),
        checkpoint_no: None,
        time: Some(row.recorded_time),
        wrong: Wrong::RecordsCut {
            head: row.record_no,
        },
    }))
}

/// Whether every record that a checkpoint names is there, or was dropped behind a
/// boundary that came later: a chain that somebody let begin anew is in none.
async fn against_checkpoints(
    snapshot: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<BadPlace>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select h.chain_id, h.record_no, h.checkpoint_no,
                  k.checkpoint_time as "checkpoint_time: DbTime", r.mac is not null as "is_there!",
                  (select max(record_no) from access_record l
                   where l.tenant_id = h.tenant_id and l.chain_id = h.chain_id) as last_no
           from checkpoint_head h
           join checkpoint k on k.tenant_id = h.tenant_id and k.checkpoint_no = h.checkpoint_no
           left join access_record r on r.tenant_id = h.tenant_id and r.chain_id = h.chain_id
                                    and r.record_no = h.record_no
           where h.tenant_id = $1 and r.mac is distinct from h.mac
             and (r.mac is not null or not exists (
                 select from checkpoint_head b
                 join checkpoint c on c.tenant_id = b.tenant_id
                                  and c.checkpoint_no = b.checkpoint_no and c.kind = 'Boundary'
                 where b.tenant_id = h.tenant_id and b.chain_id = h.chain_id
                   and b.record_no >= h.record_no and b.checkpoint_no >= h.checkpoint_no))
           order by h.chain_id, h.record_no limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(snapshot)
    .await?;
    Ok(row.map(|row| {
        let (record_no, wrong) = if row.is_there {
            let checkpoint = row.checkpoint_no;
            (row.record_no, Wrong::RecordReplaced { checkpoint })
        } else {
            let wrong = Wrong::RecordsCutBeforeCheckpoint {
                checkpoint: row.checkpoint_no,
                through: row.record_no,
            };
            (row.last_no.unwrap_or(0).saturating_add(1), wrong)
        };
        BadPlace {
            chain_id: Some(row.chain_id),
            record_no: Some(record_no),
            checkpoint_no: Some(row.checkpoint_no),
            time: Some(row.checkpoint_time),
            wrong,
        }
    }))
}

/// Boundaries that bind what came after their day: the chain was shorter at a checkpoint
/// later than that. Two days are let pass, for transactions and clocks that were late.
async fn boundaries(
    snapshot: &mut PgConnection,
    tenant: TenantId,
) -> Result<Option<BadPlace>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select b.chain_id, b.record_no, b.checkpoint_no,
                  k.checkpoint_time as "checkpoint_time: DbTime", r.record_no as "earlier_no!"
           from checkpoint k
           join checkpoint_head b on b.tenant_id = k.tenant_id
                                 and b.checkpoint_no = k.checkpoint_no
           cross join lateral (
               select h.record_no, c.checkpoint_time
               from checkpoint_head h
               join checkpoint c on c.tenant_id = h.tenant_id
                                and c.checkpoint_no = h.checkpoint_no and c.kind = 'Regular'
               where h.tenant_id = b.tenant_id and h.chain_id = b.chain_id
                 and h.record_no < b.record_no
               order by h.record_no desc limit 1
           ) as r
           where k.tenant_id = $1 and k.kind = 'Boundary'
             and r.checkpoint_time >= (k.through_day + 3)::timestamp at time zone 'UTC'
           order by b.chain_id, b.record_no limit 1"#,
        tenant.as_uuid(),
    )
    .fetch_optional(snapshot)
    .await?;
    Ok(row.map(|row| BadPlace {
        chain_id: Some(row.chain_id),
        record_no: Some(row.record_no),
        checkpoint_no: Some(row.checkpoint_no),
        time: Some(row.checkpoint_time),
        wrong: Wrong::BoundaryTooLate {
            checkpoint: row.checkpoint_no,
            earlier: row.earlier_no,
        },
    }))
}
