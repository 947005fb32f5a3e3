//! A real Kubernetes API server and a real Postgres on one Linux machine, without a
//! container engine: for the demo, the tests and the benchmarks.
//!
//! This crate may start and end processes, install Debian packages, build Kubernetes from
//! its Go modules, and write to a private folder for temporary files and to the user's
//! cache folder. It listens on 127.0.0.1 only. It knows of Bursar's programs no more than
//! how to start them; no other crate depends on it but for tests, demo and benchmarks.
//!
//! A test takes what it needs from the testbed that `testbed exec` started around it:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let testbed = bursar_testbed::shared();
//! let client = testbed.client().await?;
//! let database = testbed.database("ledger").await?;
//! let namespace = testbed.namespace("team").await?;
//! # Ok(()) }
//! ```

mod bursar;
mod certificates;
mod control_plane;
mod database;
mod descendants;
mod dice;
mod files;
mod folder;
mod gobuild;
mod handle;
mod kubeconfig;
mod packages;
mod pods;
mod ports;
mod postgres;
mod process;
mod progress;
mod random;
mod roles;
mod shared;
mod summary;
mod template;
mod testbed;
mod tokens;
mod user;
mod wait;

pub use bursar::{BursarError, Operator, Quickstart, Sidecar};
pub use control_plane::{ControlPlane, ControlPlaneError};
pub use database::{Database, DatabaseError, Server};
pub use descendants::{adopt as adopt_descendants, end_all as end_descendants};
pub use dice::Dice;
pub use folder::{Folder, FolderError};
pub use gobuild::{BuildError, prepare as prepare_control_plane};
pub use handle::{Handle, HandleError};
pub use kubeconfig::KubeconfigError;
pub use packages::{PackagesError, install as install_packages};
pub use ports::{PortsError, free_port};
pub use postgres::{Postgres, PostgresError};
pub use process::{Process, ProcessError, Spec, tail};
pub use progress::Step;
pub use random::RandomError;
pub use shared::{find_shared, shared};
pub use summary::tell;
pub use testbed::{Testbed, TestbedError};
pub use wait::until;
