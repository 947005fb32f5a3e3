//! The audit: who got what, in chains that nobody can quietly edit (SECURITY 16).
//!
//! Each record carries a number and a MAC over all of its columns and the MAC of
//! the record before. The chain of an incarnation is written under the lock of
//! its row; that of the tenant itself, with what people did, under the lock of the
//! chain's head (the order of locks is in `controllers`). Checkpoints bind the
//! heads of all chains of a tenant, and an anchor outside the database binds the
//! newest checkpoints.

mod anchor;
mod bad_place;
mod chain;
mod checkpoint;
mod cursor;
mod filter;
mod partitions;
mod query;
mod record;
mod retention;
mod times;
mod verify;
mod walk;

pub use anchor::Anchor;
pub use bad_place::{BadPlace, Verification, Wrong};
pub(crate) use chain::{Head, append, chained, head_mac};
pub use checkpoint::Checkpoints;
pub use filter::{AuditFilter, AuditFilterError};
pub(crate) use partitions::provide as provide_partitions;
pub(crate) use query::record_query;
pub use record::{Outcome, Record};
