//! The vault's store on a real Postgres. Each test has a database of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for the transactions it begins"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails has failed its test"
)]

mod audit_rights;
mod audit_trim;
mod by_api;
mod damaged_versions;
mod deletion;
mod fixture;
mod integrity;
mod leaks;
mod lock_order;
mod migrating;
mod opening;
mod outage;
mod repair;
mod reuse;
mod revocation;
mod rollback;
mod runtime_role;
#[path = "../shared/specs.rs"]
mod specs;
mod swaps;
mod team;
mod tenants;
mod term;
#[path = "../shared/thread_log.rs"]
mod thread_log;
mod tokens;
mod users;
