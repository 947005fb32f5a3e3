//! Writing records: numbered, chained, at the end.

use bursar_seal::{AuditKey, TenantId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::record::Record;
use crate::db_time::DbTime;
use crate::error::VaultError;
use crate::integrity::IntegrityFailure;
use crate::tenant_keys::TenantKeys;

/// What the first record of a chain follows.
pub(crate) const NO_MAC: [u8; 32] = [0; 32];

/// The last record of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) record_no: i64,
    pub(crate) recorded_time: DbTime,
    pub(crate) mac: [u8; 32],
}

impl Head {
    /// Of a chain without records.
    pub(crate) const fn none(now: DbTime) -> Self {
        Self {
            record_no: 0,
            recorded_time: now,
            mac: NO_MAC,
        }
    }
}

/// A record with the MACs of what it may follow.
#[derive(sqlx::FromRow)]
pub(crate) struct Linked {
    #[sqlx(flatten)]
    pub(crate) record: Record,
    previous: Vec<Vec<u8>>,
}

/// The statement that reads records `r` as [`Linked`], each of a chain `h`; it goes on behind
/// the name of that.
macro_rules! select_linked {
    ($rest:literal) => {
        concat!(
            "select r.*, array(
                        select mac from access_record p
                        where p.tenant_id = h.tenant_id and p.chain_id = h.chain_id
                          and p.record_no = r.record_no - 1
                        union all
                        select h.boundary_mac where h.boundary_no = r.record_no - 1) as previous
             from audit_chain h ",
            $rest
        )
    };
}
pub(crate) use select_linked;

impl Linked {
    /// Whether the vault wrote it there.
    pub(crate) fn is_genuine(&self, key: &AuditKey) -> bool {
        let content = self.record.content();
        let fits = |previous: &[u8; 32]| key.verify(previous, &content, &self.record.mac).is_ok();
        if self.record.record_no == 1 {
            return fits(&NO_MAC);
        }
        let previous = self.previous.iter();
        previous
            .filter_map(|mac| mac.as_slice().try_into().ok())
            .any(fits)
    }
}

/// Gives `records` their places behind `head`, at `now` or when the record before
/// was made, whichever is later: a clock that was set back does not bring them out of
/// their order.
///
/// # Errors
/// [`VaultError::Integrity`] when the tenant's audit key, or the time of a head that is
/// ahead of `now`, is not what the vault wrote; or when the database is away or refuses.
pub(crate) async fn chained(
    connection: &mut PgConnection,
    keys: &TenantKeys,
    chain: Uuid,
    mut head: Head,
    now: DbTime,
    mut records: Vec<Record>,
) -> Result<Vec<Record>, VaultError> {
    let tenant = keys.tenant().as_uuid();
    let key = keys.audit_key(&mut *connection).await?;
    if head.recorded_time > now {
        check_time(connection, keys.tenant(), key, chain, &head).await?;
    }
    head.recorded_time = head.recorded_time.max(now);
    for record in &mut records {
        head.record_no = head.record_no.saturating_add(1);
        record.tenant_id = tenant;
        record.chain_id = chain;
        record.record_no = head.record_no;
        record.recorded_time = head.recorded_time;
        record.secret_version = key.version().into();
        head.mac = key.mac(&head.mac, &record.content());
        record.mac = head.mac.to_vec();
    }
    Ok(records)
}

/// A head that is ahead of the clock lends its time to what follows, and its row has no
/// MAC: the last record, which has one, must say the same.
async fn check_time(
    connection: &mut PgConnection,
    tenant: TenantId,
    key: &AuditKey,
    chain: Uuid,
    head: &Head,
) -> Result<(), VaultError> {
    let last: Option<Linked> = sqlx::query_as(select_linked!(
        "join access_record r on r.tenant_id = h.tenant_id and r.chain_id = h.chain_id
         where h.tenant_id = $1 and h.chain_id = $2 and r.record_no = $3
           and r.recorded_time = $4 and r.mac = $5"
    ))
    .bind(tenant.as_uuid())
    .bind(chain)
    .bind(head.record_no)
    .bind(head.recorded_time)
    .bind(&head.mac[..])
    .fetch_optional(connection)
    .await?;
    if last.is_some_and(|last| last.is_genuine(key)) {
        return Ok(());
    }
    let time = head.recorded_time.micros().to_be_bytes();
    let row = chain.to_string();
    Err(IntegrityFailure::new(tenant, "audit_chain", row, &[&time]).into())
}

/// Adds records to the end of a chain, which stays locked until the transaction
/// ends: that of an incarnation, or the tenant's own under the tenant's id.
///
/// # Errors
/// As [`chained`].
pub(crate) async fn append(
    connection: &mut PgConnection,
    keys: &TenantKeys,
    chain: Uuid,
    records: Vec<Record>,
) -> Result<(), VaultError> {
    if records.is_empty() {
        return Ok(());
    }
    let tenant = keys.tenant().as_uuid();
    // Before the head, as retention does, or the two wait for each other.
    sqlx::query("lock table only access_record in row exclusive mode")
        .execute(&mut *connection)
        .await?;
    let head = sqlx::query!(
        r#"insert into audit_chain as c (tenant_id, chain_id, record_no, recorded_time, mac)
           values ($1, $2, 0, '-infinity', $3)
           on conflict (tenant_id, chain_id) do update set record_no = c.record_no
           returning record_no, recorded_time as "recorded_time: DbTime", mac,
                     clock_timestamp() as "now!: DbTime""#,
        tenant,
        chain,
        &NO_MAC,
    )
    .fetch_one(&mut *connection)
    .await?;
    let now = head.now;
    let head = Head {
        record_no: head.record_no,
        recorded_time: head.recorded_time,
        mac: head_mac(keys, chain, head.mac)?,
    };
    let records = chained(&mut *connection, keys, chain, head, now, records).await?;
    sqlx::query!("select append_records($1)", &records as &[Record])
        .execute(connection)
        .await?;
    Ok(())
}

/// The MAC of a head, as its row has it.
pub(crate) fn head_mac(
    keys: &TenantKeys,
    chain: Uuid,
    stored: Vec<u8>,
) -> Result<[u8; 32], IntegrityFailure> {
    stored.try_into().map_err(|stored: Vec<u8>| {
        IntegrityFailure::new(keys.tenant(), "audit_chain", chain.to_string(), &[&stored])
    })
}
