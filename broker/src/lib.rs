//! The sidecar: authenticates the workloads of its pod and serves them their
//! tokens on localhost.
//!
//! This crate may know ciphertext and data keys of just the tokens that the
//! vault granted its pod, for the length of a lease, and it touches nothing but
//! two files (its own service account token and Bursar's CA), one connection to
//! the vault, and loopback. It knows no database, no Kubernetes API, no root or
//! tenant key and no other pod's tokens.
//!
//! From the outside in:
//!
//! - [`Sidecar`] starts the parts, and ends them in order;
//! - `http` answers workloads: transport, syntax, JWT, then what is held;
//! - `jwt` tells this pod's callers from all others;
//! - `allowance` is what is held and owed, by the rules of the allowance;
//! - `upstream` keeps the broker attached to the vault: it watches for recalls,
//!   asks for allowances and reports what was served.
//!
//! Everything runs on one thread: the way of a request that is served from
//! memory has no lock and waits for nothing, and no other request or event can
//! come between its last check and its answer.

mod admin;
mod allowance;
mod args;
mod broker;
pub mod clock;
mod hardening;
mod http;
mod jwt;
pub mod logging;
mod metrics;
mod sidecar;
mod upstream;

pub use args::{Args, LogFormat};
pub use hardening::{HardeningError, forbid_dumps};
pub use sidecar::{Sidecar, SidecarError};
