//! The vault's service, as brokers meet it: gRPC over TLS 1.3 against a real
//! Postgres. Each test has a database of its own. The API server's part, the
//! review of a pod's token, is played by a reviewer that knows the tokens it was
//! told of; the real one belongs to the operator's tests.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for the transactions it begins"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod attach;
mod audit;
mod away;
mod crowd;
mod describe;
mod drain;
mod floods;
mod forged;
mod given_up;
mod grant;
mod load;
mod model;
mod moved;
mod own_counters;
mod quota;
mod recreated;
mod report;
mod retention;
mod revoke;
mod rows;
mod silent;
#[path = "../shared/specs.rs"]
mod specs;
mod support;
mod sweep;
#[path = "../shared/thread_log.rs"]
mod thread_log;
mod told;
mod transport;
mod trim;
mod trips;
mod watch;
mod why;
