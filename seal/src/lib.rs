//! Envelope encryption and keyed hashing.
//!
//! This crate may know keys, ids, versions and bytes. It does no I/O, reads no
//! clock and takes its randomness as a [parameter](Random); it knows nothing of
//! Kubernetes, Postgres or the network, and of no other crate here. AES-256-GCM,
//! HKDF-SHA256 and HMAC-SHA256 are aws-lc's; nothing is invented below that but
//! the layout of bytes, which `vectors/` holds to with committed test vectors.
//!
//! # Keys
//!
//! ```text
//! RootKeys        made by the installer, numbered versions
//!   wraps  TenantKey       one per tenant and version
//!     wraps  DataKey         one per token version; encrypts its value, once
//!     wraps  FingerprintKey  recognises values       (tenant secrets: random,
//!     wraps  AuditKey        chains audit records     kept over rotation)
//!     gives  RowMac          authenticates rows
//!     gives  IncarnationProof
//! ```
//!
//! A root or tenant key does each of its jobs through a key of its own, derived
//! by HKDF; only data keys and tenant secrets, which have one job, are used
//! directly.
//!
//! # Layout of bytes, format 1
//!
//! *Fields* are the byte 1, a label and the fields' values; label and values
//! each follow their length as a `u32`. Numbers are big-endian, UUIDs 16 bytes.
//! *Sealed* bytes are the byte 1, a random nonce of 12, the ciphertext and a tag
//! of 16, with these fields as associated data:
//!
//! | sealed | label | values |
//! |---|---|---|
//! | tenant key | `bursar tenant key` | root key version, tenant id, tenant key version |
//! | data key | `bursar data key` | tenant key version, token id, token version |
//! | value | `bursar value` | tenant id, token id, token version, column |
//! | tenant secret | `bursar tenant secret` | tenant key version, purpose, secret version |
//!
//! Derived keys are 32 bytes of HKDF-SHA256 without salt, with these fields as
//! info:
//!
//! | from | label | values |
//! |---|---|---|
//! | root key | `bursar root key: wrap tenant keys` | root key version |
//! | root key | `bursar root key: check value` | root key version |
//! | tenant key | `bursar tenant key: wrap data keys` | tenant id, tenant key version |
//! | tenant key | `bursar tenant key: wrap tenant secrets` | tenant id, tenant key version |
//! | tenant key | `bursar tenant key: authenticate rows` | tenant id, tenant key version |
//! | tenant key | `bursar tenant key: prove incarnations` | tenant id, tenant key version |
//!
//! A check value is the byte 1 and its derived key. Hashes are HMAC-SHA256: a
//! fingerprint of the value itself, the others of these fields:
//!
//! | hash | label | values |
//! |---|---|---|
//! | row | `bursar row` | table, then each column behind a byte for its type |
//! | audit record | `bursar audit record` | previous hash, the record's fields (written as a row) |
//! | incarnation | `bursar incarnation` | incarnation id, pod UID |
//!
//! Column types: 0 absent, 1 bytes, 2 text, 3 UUID, 4 number (8 bytes), 5
//! boolean (1 byte), 6 texts (each behind its length).

mod blob;
mod data;
mod fields;
mod ids;
mod key;
mod opener;
mod proof;
mod random;
mod root;
mod row_mac;
mod secret;
mod tenant;
mod tenant_secrets;
mod versions;

pub use blob::{BlobError, Ciphertext, WrappedKey};
pub use data::{DataKey, DataKeyError, FreshDataKey, VALUE_COLUMN, ValueContext};
pub use ids::{IdError, TenantId, TokenId};
pub use key::LibraryError;
pub use opener::{Opener, PlainBuffer, Plaintext};
pub use proof::{IncarnationProof, ProofError};
pub use random::{Random, RandomError, SystemRandom};
pub use root::{RootKey, RootKeyError, RootKeys};
pub use row_mac::{RowMac, RowMacError, RowWriter};
pub use secret::Secret;
pub use tenant::{TenantKey, TenantKeyError};
pub use tenant_secrets::{
    AuditKey, Fingerprint, FingerprintKey, KeyPurpose, KeyPurposeError, TenantSecretError,
};
pub use versions::{RootKeyVersion, SecretVersion, TenantKeyVersion, TokenVersion, VersionError};
