//! `kubectl bursar`: for people, what the vault's service for people answers.
//!
//! This crate knows that protocol ([`bursar_wire::people`]) and the Kubernetes API, and nothing of
//! the vault or its database. It asks the API server for a token of a service account the person
//! may use, for the audience `bursar-cli` and ten minutes, and shows that to the vault: a
//! credential of the kubeconfig never leaves for anybody but the API server. It reads no clock:
//! what time it is comes from outside.

mod args;
mod audit;
mod error;
mod kubernetes;
mod output;
mod patience;
mod quotas;
mod records;
mod revoke;
mod run;
mod table;
mod time;
mod unread;
mod vault;
mod verify;
mod why;

pub use args::Args;
pub use error::CliError;
pub use run::run;
