//! Benchmarks of the product as it ships, each against the numbers of the design.
//!
//! This crate drives the product from outside: over HTTP as a workload, through the
//! Kubernetes API as a platform team, over the broker-vault protocol as a broker. It may
//! know the testbed, the kinds and the protocol. Of the product's insides it knows two
//! things in Postgres: the numbers of the calls that the vault has recorded, and the
//! channel on which it announces changes. Only the program `vault` beside it runs a part
//! of the product by itself, because no cluster here has ten thousand pods. All figures of
//! a run are taken in that run; ratios compare servers side by side.

pub mod answer;
pub mod bare;
pub mod broker;
pub mod calls;
pub mod commits;
pub mod fleet;
pub mod hot_path;
pub mod limits;
pub mod load;
pub mod machine;
pub mod memory;
pub mod misses;
pub mod report;
pub mod revocation;
pub mod row;
pub mod run;
pub mod scale;
pub mod secret_change;
pub mod shared_quota;
pub mod simulated;
pub mod startup;
pub mod stats;
pub mod team;
pub mod workload;
pub mod wrk;
