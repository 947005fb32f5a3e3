//! The kinds of `bursar.dev/v1alpha1` as Rust types, their conditions, and the manifests generated
//! from them.
//!
//! This crate knows what people write in YAML and what they read back in `status`, and nothing of
//! how it is done: it has no I/O (but for the `crdgen` binary, which writes the manifests), no
//! client, no clock and no secret. It depends on none of the other crates.

pub mod conditions;
pub mod manifests;
pub mod names;
pub mod reasons;
mod stored_token;
mod syntax;
mod token_quota;
mod token_user;
mod window;

pub use stored_token::{
    Consumer, DeletionPolicy, Draining, Generate, GenerateFormat, Revocation, SecretKeyRef, Source,
    StoredToken, StoredTokenSpec, StoredTokenStatus, UserRef,
};
pub use token_quota::{
    Each, Enforcement, Subject, TokenQuota, TokenQuotaSpec, TokenQuotaStatus, TokenRef,
};
pub use token_user::{Access, Role, TokenUser, TokenUserSpec, TokenUserStatus, Workload};
pub use window::{Window, WindowError, WindowType};
