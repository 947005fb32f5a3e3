//! Bursar itself, run as processes beside the testbed: the operator with its service
//! account's rights, and brokers as the sidecars of pods that no kubelet runs.

mod install;
mod operator;
mod probe;
mod quickstart;
mod sidecar;

use std::env;
use std::io;
use std::path::{Path, PathBuf};

pub use operator::Operator;
pub use quickstart::Quickstart;
pub use sidecar::Sidecar;

use crate::database::DatabaseError;
use crate::handle::HandleError;
use crate::ports::PortsError;
use crate::process::ProcessError;
use crate::random::RandomError;

/// The name in the vault's certificate; on a cluster it is that of the vault's Service.
const VAULT_NAME: &str = "bursar-vault.bursar-system.svc";

/// Why Bursar does not run.
#[derive(Debug, thiserror::Error)]
pub enum BursarError {
    /// A program has not been built.
    #[error("there is no {program} in {folder}: run `cargo build --workspace` first")]
    NotBuilt {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        folder: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The operator has not written its CA into a namespace.
    #[error(
        "there is no ConfigMap bursar-ca with a ca.crt in namespace {namespace}: the operator writes it where there is a TokenUser or StoredToken and the namespace is onboarded, as by `kubectl create rolebinding bursar --namespace {namespace} --clusterrole bursar-onboarded --serviceaccount bursar-system:bursar-operator`. The end of the operator's log {log}:\n{tail}"
    )]
    NoAuthority {
        /// The namespace.
        namespace: String,
        /// The operator's log file.
        log: String,
        /// The last lines of that log.
        tail: String,
    },
    /// A process ended or was too slow.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Something could not be made in the cluster.
    #[error(transparent)]
    Cluster(#[from] HandleError),
    /// The operator's database could not be made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortsError),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A program of this workspace: cargo puts them all into one folder, ours among them, and
/// tests into the folder `deps` in it.
fn program(name: &'static str) -> Result<PathBuf, BursarError> {
    let own = env::current_exe().unwrap_or_default();
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .unwrap_or(Path::new("."));
    let path = folder.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(BursarError::NotBuilt {
        program: name,
        folder: folder.display().to_string(),
    })
}

/// A file or folder of the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BursarError {
    let path = path.display().to_string();
    move |source| BursarError::File { path, source }
}
