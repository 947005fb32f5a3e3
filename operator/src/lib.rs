//! Reconciles TokenUsers, StoredTokens and TokenQuotas into the vault, and serves the vault to brokers.
//!
//! This crate knows both worlds, Kubernetes and the vault, and is the only one that does. Of
//! Kubernetes it touches our kinds (status and finalizers), events, the labelled Secrets of
//! onboarded namespaces, the ConfigMap `bursar-ca` there, and its own Secrets. It holds the root
//! keys and the database URL, hands both to the vault, and keeps no state of its own. Values of
//! tokens pass through it in types that cannot be printed, from a Secret's watch to the vault.
//!
//! Beside the controllers, every replica serves the vault to brokers and answers people (`people`).
//!
//! From an object's change to the vault, top to bottom: `feed` hears of it, `directory` finds who
//! it matters to, `controller` makes an attempt, `user`, `token` and `quota` are the pipelines of
//! the three kinds, `object` writes back.

mod account;
mod audit;
mod backoff;
mod clocks;
mod cluster;
mod command;
mod config;
mod context;
mod controller;
mod controllers;
mod database;
mod directory;
mod failure;
mod feed;
mod gone;
mod health;
mod issuer;
mod kind;
mod log;
mod metrics;
mod object;
mod people;
mod quota;
mod readiness;
mod recalls;
mod refused;
mod reviewer;
mod root_keys;
mod run;
mod secrets;
mod stop;
mod tls;
mod token;
mod user;

pub use command::{Command, Migrate};
pub use config::{Config, Timing};
pub use log::{LogError, LogFormat, LogLevel, filter as log_filter, init as init_log};
pub use root_keys::RootKeysError;
pub use run::{Machine, RunError, run};
pub use tls::{AuthorityError, CaError};
