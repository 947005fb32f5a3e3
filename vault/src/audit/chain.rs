//! Writing records: numbered, chained, at the end.

use bursar_seal::AuditKey;
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

/// Gives `records` their places behind `head`, at `now` or when the record before
/// was made, whichever is later.
pub(crate) fn chained(
    key: &AuditKey,
    (tenant, chain): (Uuid, Uuid),
    mut head: Head,
    now: DbTime,
    mut records: Vec<Record>,
) -> Vec<Record> {
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
    records
}

/// Adds records to the end of a chain, which stays locked until the transaction
/// ends: that of an incarnation, or the tenant's own under the tenant's id.
///
/// # Errors
/// [`VaultError::Integrity`] when the tenant's audit key is not what the vault
/// wrote; or when the database is away or refuses.
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
    let key = keys.audit_key(&mut *connection).await?;
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
    let records = chained(key, (tenant, chain), head, now, records);
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
