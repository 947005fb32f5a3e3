//! Users, tokens, grants and records on Postgres.
//!
//! This crate may know rows, keys and the protocol with brokers. It touches one
//! database and nothing else: no Kubernetes types (whoever reviews a pod's token
//! is handed in), no files, no environment, and no clock or randomness but what
//! [`VaultConfig`] brings. Values are in plain form only on their way from a
//! source into a sealed row; what the database holds opens with the root key
//! alone, and what decides access there is authenticated.

mod audit;
mod changes;
mod clock;
mod connect;
mod controllers;
mod db_time;
mod error;
mod generate;
mod integrity;
mod migrate;
mod names;
mod open;
mod people;
mod places;
mod quotas;
mod recalls;
pub mod rows;
mod schema;
pub mod service;
mod tenant;
mod tenant_keys;
mod term;
mod tokens;
mod users;
mod value;
mod vault;

pub use audit::{
    Anchor, AuditFilter, AuditFilterError, BadPlace, Checkpoints, Outcome, Record, Verification,
    Wrong,
};
pub use changes::{CHANGE_CHANNEL, Change, Numbered, SHARDS, heads, read_after};
pub use clock::{Clock, SystemClock};
pub use connect::ConnectError;
pub use controllers::Controllers;
pub use db_time::DbTime;
pub use error::{Category, DatabaseError, KeyError, VaultError};
pub use generate::{Format, GenerateError, GenerateSpec};
pub use integrity::IntegrityFailure;
pub use migrate::{MigrateError, Migration, migrate};
pub use names::{
    AppName, Counter, Email, IdempotencyKey, NameError, Namespace, NamespaceUid, PersonName,
    Provider, Purpose, QuotaId, QuotaName, ServiceAccountName, TokenName, UserName, UserUid,
};
pub use open::{OpenError, QUERY_LIMIT, VaultConfig};
pub use people::Person;
pub use places::{Place, Places};
pub use quotas::{QuotaFilter, QuotaFilterError, QuotaSpec, QuotaState, UsageId};
pub use recalls::{Recalled, Recalls};
pub use schema::SchemaError;
pub use tenant::Tenant;
pub use tenant_keys::TenantKeys;
pub use term::Term;
pub use tokens::{
    Drain, RETENTION, RefusedValue, RevokeError, Revoked, Serving, Source, TokenSpec, TokenState,
    TokenUse,
};
pub use users::{UserSpec, UserState};
pub use value::{MAX_VALUE_BYTES, TokenValue, ValueError};
pub use vault::Vault;
