//! What a test vector says, format by format. Byte strings are hexadecimal.

use serde::{Deserialize, Serialize};

/// Proves which root key is given: `check-value.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct CheckValue {
    pub(crate) root_key: String,
    pub(crate) root_key_version: u32,
    pub(crate) check_value: String,
}

/// Root key to tenant key: `tenant-key.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WrappedTenantKey {
    pub(crate) root_key: String,
    pub(crate) root_key_version: u32,
    pub(crate) tenant_id: String,
    pub(crate) tenant_key_version: u32,
    pub(crate) tenant_key: String,
    pub(crate) nonce: String,
    pub(crate) wrapped: String,
}

/// Tenant key to data key: `data-key.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WrappedDataKey {
    pub(crate) tenant_key: String,
    pub(crate) tenant_id: String,
    pub(crate) tenant_key_version: u32,
    pub(crate) token_id: String,
    pub(crate) token_version: u32,
    pub(crate) data_key: String,
    pub(crate) nonce: String,
    pub(crate) wrapped: String,
}

/// Data key to value: `value.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct SealedValue {
    pub(crate) data_key: String,
    pub(crate) tenant_id: String,
    pub(crate) token_id: String,
    pub(crate) token_version: u32,
    pub(crate) column: String,
    pub(crate) plaintext: String,
    pub(crate) nonce: String,
    pub(crate) ciphertext: String,
}

/// Tenant key to tenant secret: `tenant-secret.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct WrappedSecret {
    pub(crate) tenant_key: String,
    pub(crate) tenant_id: String,
    pub(crate) tenant_key_version: u32,
    pub(crate) purpose: String,
    pub(crate) secret_version: u32,
    pub(crate) secret: String,
    pub(crate) nonce: String,
    pub(crate) wrapped: String,
}

/// A value's fingerprint: `fingerprint.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    pub(crate) fingerprint_key: String,
    pub(crate) plaintext: String,
    pub(crate) fingerprint: String,
}

/// A record in its chain: `audit-record.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuditRecord {
    pub(crate) audit_key: String,
    pub(crate) previous: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) mac: String,
}

/// An authenticated row: `row-mac.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuthenticatedRow {
    pub(crate) tenant_key: String,
    pub(crate) tenant_id: String,
    pub(crate) tenant_key_version: u32,
    pub(crate) table: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) mac: String,
}

/// One column of a row.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Column {
    Absent,
    Bytes(String),
    Text(String),
    Uuid(String),
    Number(i64),
    Boolean(bool),
    Texts(Vec<String>),
}

/// A proof of an incarnation: `incarnation-proof.json`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) tenant_key: String,
    pub(crate) tenant_id: String,
    pub(crate) tenant_key_version: u32,
    pub(crate) incarnation_id: String,
    pub(crate) pod_uid: String,
    pub(crate) proof: String,
}
