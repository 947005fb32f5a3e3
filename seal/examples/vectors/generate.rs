//! Makes the test vectors through the public API, from a known sequence of bytes
//! in place of randomness. Byte strings are hexadecimal.

use std::error::Error;
use std::sync::Mutex;

use bursar_seal::{
    KeyPurpose, Random, RandomError, RootKey, RootKeyVersion, RootKeys, RowWriter, SecretVersion,
    TenantKey, TenantKeyVersion, TokenVersion, ValueContext, WrappedKey,
};
use serde::Serialize;
use uuid::Uuid;

use crate::shapes::*;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Counts 0, 1, 2, ... 255, 0, ... and remembers what it gave.
#[derive(Default)]
struct Counting(Mutex<(u8, Vec<u8>)>);

impl Counting {
    /// The key and the nonce that were drawn since the last call.
    fn key_and_nonce(&self) -> (String, String) {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let drawn = std::mem::take(&mut state.1);
        let (key, nonce) = drawn.split_at(drawn.len() - 12);
        (hex::encode(key), hex::encode(nonce))
    }
}

impl Random for Counting {
    fn fill(&self, out: &mut [u8]) -> std::result::Result<(), RandomError> {
        let mut state = self.0.lock().map_err(|_| RandomError)?;
        for byte in out {
            *byte = state.0;
            state.0 = state.0.wrapping_add(1);
            state.1.push(*byte);
        }
        Ok(())
    }
}

const ROOT_KEYS: [(u32, [u8; 32]); 2] = [(1, [0xA1; 32]), (2, [0xA2; 32])];
const TENANT: Uuid = Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111);
const TOKEN: Uuid = Uuid::from_u128(0x2222_2222_2222_4222_8222_2222_2222_2222);
const INCARNATION: Uuid = Uuid::from_u128(0x3333_3333_3333_4333_8333_3333_3333_3333);

/// The root keys of all vectors up to version `newest`.
pub(crate) fn root_keys(newest: u32) -> Result<RootKeys> {
    let mut keys = Vec::new();
    for (version, bytes) in ROOT_KEYS
        .into_iter()
        .filter(|(version, _)| *version <= newest)
    {
        keys.push(RootKey::from_bytes(
            RootKeyVersion::try_from(version)?,
            &bytes,
        )?);
    }
    Ok(RootKeys::new(keys)?)
}

/// Each file of vectors and its text.
pub(crate) fn files() -> Result<Vec<(String, String)>> {
    let random = Counting::default();
    let mut files = Vec::new();

    let mut check_values = Vec::new();
    for (version, bytes) in ROOT_KEYS {
        let check_value = root_keys(version)?.check_value(RootKeyVersion::try_from(version)?)?;
        check_values.push(CheckValue {
            root_key: hex::encode(bytes),
            root_key_version: version,
            check_value: hex::encode(check_value),
        });
    }
    files.push(file("check-value", &check_values)?);

    let mut tenant_keys = Vec::new();
    let mut newest = None;
    for (version, bytes) in ROOT_KEYS {
        let tenant_key_version = TenantKeyVersion::try_from(version + 4)?;
        let (key, wrapped) =
            root_keys(version)?.new_tenant_key(TENANT.into(), tenant_key_version, &random)?;
        let (tenant_key, nonce) = random.key_and_nonce();
        newest = Some((key, tenant_key.clone()));
        tenant_keys.push(WrappedTenantKey {
            root_key: hex::encode(bytes),
            root_key_version: version,
            tenant_id: TENANT.to_string(),
            tenant_key_version: tenant_key_version.get(),
            tenant_key,
            nonce,
            wrapped: hex::encode(wrapped.as_bytes()),
        });
    }
    files.push(file("tenant-key", &tenant_keys)?);
    let (key, tenant_key) = newest.ok_or("no root keys")?;

    data(&mut files, &key, &tenant_key, &random)?;
    secrets(&mut files, &key, &tenant_key, &random)?;

    let columns = every_column();
    files.push(file(
        "row-mac",
        &[AuthenticatedRow {
            mac: hex::encode(key.row_mac().mac(&row("example", &columns)?)),
            tenant_key: tenant_key.clone(),
            tenant_id: TENANT.to_string(),
            tenant_key_version: key.version().get(),
            table: "example".into(),
            columns,
        }],
    )?);

    let pod_uid = "44444444-4444-4444-8444-444444444444";
    files.push(file(
        "incarnation-proof",
        &[Proof {
            proof: hex::encode(key.incarnation_proof(INCARNATION, pod_uid).as_bytes()),
            tenant_key,
            tenant_id: TENANT.to_string(),
            tenant_key_version: key.version().get(),
            incarnation_id: INCARNATION.to_string(),
            pod_uid: pod_uid.into(),
        }],
    )?);
    Ok(files)
}

/// Data keys and values.
fn data(
    files: &mut Vec<(String, String)>,
    key: &TenantKey,
    tenant_key: &str,
    random: &Counting,
) -> Result<()> {
    let (mut data_keys, mut values) = (Vec::new(), Vec::new());
    for (version, plaintext) in [(1, "a"), (7, "example-token-value \u{e9}")] {
        let token_version = TokenVersion::try_from(version)?;
        let (fresh, wrapped) = key.new_data_key(TOKEN.into(), token_version, random)?;
        let (data_key, nonce) = random.key_and_nonce();
        data_keys.push(WrappedDataKey {
            tenant_key: tenant_key.into(),
            tenant_id: TENANT.to_string(),
            tenant_key_version: key.version().get(),
            token_id: TOKEN.to_string(),
            token_version: version,
            data_key: data_key.clone(),
            nonce,
            wrapped: hex::encode(wrapped.as_bytes()),
        });

        let context = ValueContext {
            tenant: TENANT.into(),
            token: TOKEN.into(),
            version: token_version,
            column: "value",
        };
        let sealed = fresh.seal_value(&context, plaintext.as_bytes(), random)?;
        let (_, nonce) = random.key_and_nonce();
        values.push(SealedValue {
            data_key,
            tenant_id: TENANT.to_string(),
            token_id: TOKEN.to_string(),
            token_version: version,
            column: context.column.into(),
            plaintext: hex::encode(plaintext),
            nonce,
            ciphertext: hex::encode(sealed.as_bytes()),
        });
    }
    files.push(file("data-key", &data_keys)?);
    files.push(file("value", &values)?);
    Ok(())
}

/// Tenant secrets and what is made with them.
fn secrets(
    files: &mut Vec<(String, String)>,
    key: &TenantKey,
    tenant_key: &str,
    random: &Counting,
) -> Result<()> {
    let vector = |purpose: KeyPurpose, version: SecretVersion, wrapped: &WrappedKey| {
        let (secret, nonce) = random.key_and_nonce();
        WrappedSecret {
            tenant_key: tenant_key.into(),
            tenant_id: TENANT.to_string(),
            tenant_key_version: key.version().get(),
            purpose: purpose.to_string(),
            secret_version: version.get(),
            secret,
            nonce,
            wrapped: hex::encode(wrapped.as_bytes()),
        }
    };

    let version = SecretVersion::FIRST;
    let (fingerprint_key, wrapped) = key.new_fingerprint_key(version, random)?;
    let fingerprint_vector = vector(KeyPurpose::Fingerprint, version, &wrapped);
    let version = SecretVersion::try_from(3)?;
    let (audit_key, wrapped) = key.new_audit_key(version, random)?;
    let audit_vector = vector(KeyPurpose::Audit, version, &wrapped);

    let plaintext = b"example-token-value";
    files.push(file(
        "fingerprint",
        &[Fingerprint {
            fingerprint_key: fingerprint_vector.secret.clone(),
            plaintext: hex::encode(plaintext),
            fingerprint: hex::encode(fingerprint_key.fingerprint(plaintext).as_bytes()),
        }],
    )?);

    let mut previous = [0; 32];
    let mut records = Vec::new();
    for number in 1..=2 {
        let columns = vec![Column::Number(number), Column::Text("served".into())];
        let mac = audit_key.mac(&previous, &row("records", &columns)?);
        records.push(AuditRecord {
            audit_key: audit_vector.secret.clone(),
            previous: hex::encode(previous),
            table: "records".into(),
            columns,
            mac: hex::encode(mac),
        });
        previous = mac;
    }
    files.push(file("audit-record", &records)?);
    files.push(file("tenant-secret", &[fingerprint_vector, audit_vector])?);
    Ok(())
}

fn every_column() -> Vec<Column> {
    vec![
        Column::Absent,
        Column::Bytes("00ff".into()),
        Column::Text(String::new()),
        Column::Text("gr\u{fc}n".into()),
        Column::Uuid(TOKEN.to_string()),
        Column::Number(-1),
        Column::Number(i64::MAX),
        Column::Boolean(true),
        Column::Boolean(false),
        Column::Texts(vec![]),
        Column::Texts(vec!["deploy".into(), String::new(), "read".into()]),
    ]
}

/// A row of a vector, through the public API.
pub(crate) fn row(table: &'static str, columns: &[Column]) -> Result<RowWriter> {
    columns
        .iter()
        .try_fold(RowWriter::new(table), |row, column| {
            Ok(match column {
                Column::Absent => row.opt_text(None),
                Column::Bytes(bytes) => row.bytes(&hex::decode(bytes)?),
                Column::Text(text) => row.text(text),
                Column::Uuid(id) => row.uuid(id.parse()?),
                Column::Number(number) => row.i64(*number),
                Column::Boolean(boolean) => row.bool(*boolean),
                Column::Texts(texts) => row.texts(texts),
            })
        })
}

fn file(name: &str, vectors: &(impl Serialize + ?Sized)) -> Result<(String, String)> {
    Ok((
        format!("{name}.json"),
        serde_json::to_string_pretty(vectors)? + "\n",
    ))
}
