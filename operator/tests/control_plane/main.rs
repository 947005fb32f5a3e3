//! The operator on a real API server and a real Postgres, with its service account's rights.
//!
//! One operator, run as a library, serves all tests of this program: it watches all namespaces, so
//! two of them at once would undo each other's work. Each test has a namespace of its own, and
//! waits for what must come. Tests that disturb the operator (stop it, cut it off from Postgres,
//! change the kinds) take it for themselves while they do.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod api_server;
mod broker;
mod cable;
mod cli;
mod database;
mod logs;
mod operator;
mod team;

mod attach;
mod audit;
mod bad_input;
mod certificates;
mod deletion;
mod isolation;
mod leaks;
mod onboarding;
mod output;
mod people;
mod people_floods;
mod people_lost;
mod people_proxy;
mod quiet;
mod quota_faults;
mod quotas;
mod recreated;
mod replicas;
mod starting;
mod tokens;
mod told;
mod users;
