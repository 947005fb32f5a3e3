//! Checkpoints: what chains there are and how far they go, bound together.
//!
//! A checkpoint carries a number and a MAC over its columns, a digest of chain
//! heads, and the MAC of the checkpoint before. The controllers alone write
//! them, in their term and one after another.

use aws_lc_rs::digest::{Context, SHA256};
use bursar_seal::{AuditKey, RowWriter, TenantId};
use jiff::civil::Date;
use sqlx::PgConnection;
use uuid::Uuid;

use super::anchor::Anchor;
use super::chain::{Linked, NO_MAC, select_linked};
use super::retention::CLOCKS_APART;
use crate::controllers::Controllers;
use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::integrity::IntegrityFailure;

/// So that a later cut is found.
const REGULAR: &str = "Regular";
/// So that what is dropped up to a day's end is told from what was cut.
const BOUNDARY: &str = "Boundary";

/// A row of `checkpoint` as it lies in the database.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointRow {
    pub(crate) tenant_id: Uuid,
    pub(crate) checkpoint_no: i64,
    pub(crate) checkpoint_time: DbTime,
    pub(crate) kind: String,
    /// As `YYYY-MM-DD`.
    pub(crate) through_day: Option<String>,
    pub(crate) heads_digest: Vec<u8>,
    pub(crate) secret_version: i32,
    pub(crate) mac: Vec<u8>,
}

impl CheckpointRow {
    pub(crate) fn content(&self) -> RowWriter {
        RowWriter::new("checkpoint")
            .uuid(self.tenant_id)
            .i64(self.checkpoint_no)
            .i64(self.checkpoint_time.micros())
            .text(&self.kind)
            .opt_text(self.through_day.as_deref())
            .bytes(&self.heads_digest)
            .i64(self.secret_version.into())
    }
}

/// SHA-256 over chain ids, record numbers (big-endian) and MACs, in the order of
/// the chains' ids.
pub(crate) struct HeadsDigest(Context);

impl HeadsDigest {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn add(&mut self, chain: Uuid, record_no: i64, mac: &[u8]) {
        self.0.update(chain.as_bytes());
        self.0.update(&record_no.to_be_bytes());
        self.0.update(mac);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

/// The heads that a checkpoint binds, column by column.
#[derive(Default)]
struct Heads {
    chains: Vec<Uuid>,
    record_nos: Vec<i64>,
    macs: Vec<Vec<u8>>,
}

impl Heads {
    fn push(&mut self, chain: Uuid, record_no: i64, mac: Vec<u8>) {
        self.chains.push(chain);
        self.record_nos.push(record_no);
        self.macs.push(mac);
    }

    fn digest(&self) -> Vec<u8> {
        let mut digest = HeadsDigest::new();
        for ((chain, record_no), mac) in self.chains.iter().zip(&self.record_nos).zip(&self.macs) {
            digest.add(*chain, *record_no, mac);
        }
        digest.finish()
    }
}

/// What became of the checkpoints of all tenants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checkpoints {
    /// What binds the newest of all tenants, to be kept outside the database;
    /// `None` while there is no checkpoint.
    pub anchor: Option<Anchor>,
    /// Tenants that could not have one, because rows of theirs are damaged or held by
    /// somebody.
    pub passed_over: u32,
}

impl Controllers {
    /// Writes a checkpoint for each tenant of which a chain moved since its last
    /// one.
    ///
    /// A tenant whose rows are damaged, or held by somebody, is passed over: its
    /// chains stay without a new checkpoint. Damage is on record.
    ///
    /// # Errors
    /// [`VaultError::TermSuperseded`]; [`VaultError::ClocksApart`] and
    /// [`VaultError::CheckpointAhead`]; or when the database is away.
    pub async fn checkpoint_all(&self) -> Result<Checkpoints, VaultError> {
        let vault = self.vault();
        let _alone = vault.checkpoints().lock().await;
        let moved = sqlx::query_scalar!(
            "select distinct tenant_id from audit_chain h
             where not exists (
                 select from checkpoint_head c
                 where c.tenant_id = h.tenant_id and c.chain_id = h.chain_id
                   and c.record_no = h.record_no and c.mac = h.mac)",
        )
        .fetch_all(vault.pool())
        .await?;
        let mut passed_over = 0;
        for tenant in moved {
            match self.checkpoint(tenant.into(), None).await {
                Ok(_) => {}
                Err(error) if error.is_everybodys() => return Err(error),
                // Damaged rows are on record, with what to do.
                Err(error) => {
                    passed_over += 1;
                    tracing::error!(%tenant, "there is no checkpoint: {error}");
                }
            }
        }
        let mut snapshot = self.snapshot().await?;
        // Nor is one that is ahead bound outside.
        let anchor = match self.newest_time(&mut snapshot).await? {
            Some(time) => Some(Anchor::at(&mut snapshot, time).await?),
            None => None,
        };
        Ok(Checkpoints {
            anchor,
            passed_over,
        })
    }

    /// Writes a boundary: a checkpoint that binds the last record of each of the
    /// tenant's chains recorded up to the end of `through` (UTC). Gives its number.
    /// What is up to there may be dropped when it has been verified, in one
    /// transaction with setting `boundary_no` and `boundary_mac` of the chains.
    ///
    /// # Errors
    /// As [`Vault::tenant_of`](crate::Vault::tenant_of);
    /// [`VaultError::Integrity`] when one of these records is not what the vault wrote
    /// there; [`VaultError::ClocksApart`] and [`VaultError::CheckpointAhead`]; and
    /// [`VaultError::TermSuperseded`].
    pub async fn checkpoint_boundary(
        &self,
        tenant: TenantId,
        through: Date,
    ) -> Result<i64, VaultError> {
        let _alone = self.vault().checkpoints().lock().await;
        let written = self.checkpoint(tenant, Some(through)).await;
        // Recorded in the transaction, it would be gone with it.
        if let Err(VaultError::Integrity(failure)) = &written {
            failure.record(self.vault().pool()).await?;
        }
        written
    }

    /// The time of the newest checkpoint of all tenants, whose next ones will be later. One row
    /// with a false time would put all of them ahead, for good: none is believed that is far
    /// ahead of this machine's clock.
    async fn newest_time(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Option<DbTime>, VaultError> {
        self.check_clock(db_now(&mut *connection).await?.timestamp())?;
        let newest = sqlx::query!(
            r#"select tenant_id, checkpoint_no, checkpoint_time as "checkpoint_time: DbTime"
               from checkpoint order by checkpoint_time desc limit 1"#,
        )
        .fetch_optional(connection)
        .await?;
        let Some(newest) = newest else {
            return Ok(None);
        };
        let here = self.vault().clock().now();
        if newest.checkpoint_time > DbTime::from(here).after(CLOCKS_APART.unsigned_abs()) {
            return Err(VaultError::CheckpointAhead {
                tenant: newest.tenant_id.into(),
                checkpoint_no: newest.checkpoint_no,
                here,
            });
        }
        Ok(Some(newest.checkpoint_time))
    }

    async fn checkpoint(&self, tenant: TenantId, through: Option<Date>) -> Result<i64, VaultError> {
        let vault = self.vault();
        // No two checkpoints of any tenants have one time, whatever the clock does.
        let last = self
            .newest_time(&mut *vault.pool().acquire().await?)
            .await?;
        let (mut transaction, _, locked) =
            vault.lock_any_tenant(self.begin().await?, tenant).await?;
        let keys = locked.keys();
        let key = keys.audit_key(&mut transaction).await?;
        let heads = match through {
            None => moved_heads(&mut transaction, tenant).await?,
            Some(day) => heads_at(&mut transaction, tenant, key, day).await?,
        };
        let before = sqlx::query!(
            r#"select c.checkpoint_no as "checkpoint_no?", c.mac as "mac?",
                      greatest(clock_timestamp(), $2::timestamptz + interval '1 microsecond') as "now!: DbTime"
               from (select) as one left join (
                   select checkpoint_no, mac from checkpoint where tenant_id = $1
                   order by checkpoint_no desc limit 1
               ) as c on true"#,
            tenant.as_uuid(),
            last as Option<DbTime>,
        )
        .fetch_one(&mut *transaction)
        .await?;
        let previous = match before.mac {
            None => NO_MAC,
            Some(mac) => mac.try_into().map_err(|mac: Vec<u8>| {
                IntegrityFailure::new(tenant, "checkpoint", tenant.to_string(), &[&mac])
            })?,
        };
        let mut row = CheckpointRow {
            tenant_id: tenant.as_uuid(),
            checkpoint_no: before.checkpoint_no.unwrap_or(0).saturating_add(1),
            checkpoint_time: before.now,
            kind: through.map_or(REGULAR, |_| BOUNDARY).to_owned(),
            through_day: through.map(|day| day.to_string()),
            heads_digest: heads.digest(),
            secret_version: key.version().into(),
            mac: Vec::new(),
        };
        row.mac = key.mac(&previous, &row.content()).to_vec();
        store(&mut transaction, &row, &heads).await?;
        transaction.commit().await?;
        tracing::info!(
            %tenant,
            checkpoint_no = row.checkpoint_no,
            kind = row.kind,
            chains = heads.chains.len(),
            mac = hex::encode(&row.mac),
            "checkpoint of the audit",
        );
        Ok(row.checkpoint_no)
    }
}

/// The heads that no checkpoint has yet.
async fn moved_heads(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Heads, sqlx::Error> {
    let rows = sqlx::query!(
        "select chain_id, record_no, mac from audit_chain h
         where tenant_id = $1 and not exists (
             select from checkpoint_head c
             where c.tenant_id = h.tenant_id and c.chain_id = h.chain_id
               and c.record_no = h.record_no and c.mac = h.mac)
         order by chain_id",
        tenant.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let mut heads = Heads::default();
    for row in rows {
        heads.push(row.chain_id, row.record_no, row.mac);
    }
    Ok(heads)
}

/// The last record of each chain up to the end of a day.
///
/// What is bound here is dropped next, and with it what could be verified: a record that
/// somebody moved to this day, or added to it, must not be bound.
async fn heads_at(
    connection: &mut PgConnection,
    tenant: TenantId,
    key: &AuditKey,
    day: Date,
) -> Result<Heads, VaultError> {
    let rows: Vec<Linked> = sqlx::query_as(select_linked!(
        "cross join lateral (
             select * from access_record a
             where a.tenant_id = h.tenant_id and a.chain_id = h.chain_id
               and a.recorded_time < ($2::text::date + 1)::timestamp at time zone 'UTC'
             order by record_no desc limit 1
         ) as r
         where h.tenant_id = $1
         order by h.chain_id"
    ))
    .bind(tenant.as_uuid())
    .bind(day.to_string())
    .fetch_all(connection)
    .await?;
    let mut heads = Heads::default();
    for last in rows {
        let is_genuine = last.is_genuine(key);
        let record = last.record;
        if !is_genuine {
            let place = format!("{} {}", record.chain_id, record.record_no);
            let content = record.content();
            let found = [content.as_bytes(), &record.mac];
            return Err(IntegrityFailure::new(tenant, "access_record", place, &found).into());
        }
        heads.push(record.chain_id, record.record_no, record.mac);
    }
    Ok(heads)
}

async fn store(
    connection: &mut PgConnection,
    row: &CheckpointRow,
    heads: &Heads,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into checkpoint (tenant_id, checkpoint_no, checkpoint_time, kind, through_day,
                                 heads_digest, secret_version, mac)
         values ($1, $2, $3, $4, $5::text::date, $6, $7, $8)",
        row.tenant_id,
        row.checkpoint_no,
        row.checkpoint_time as DbTime,
        row.kind,
        row.through_day,
        row.heads_digest,
        row.secret_version,
        row.mac,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into checkpoint_head (tenant_id, checkpoint_no, chain_id, record_no, mac)
         select $1, $2, h.chain_id, h.record_no, h.mac
         from unnest($3::uuid[], $4::bigint[], $5::bytea[]) as h (chain_id, record_no, mac)",
        row.tenant_id,
        row.checkpoint_no,
        &heads.chains,
        &heads.record_nos,
        &heads.macs,
    )
    .execute(connection)
    .await?;
    Ok(())
}
