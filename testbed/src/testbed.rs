//! One testbed: Postgres and a Kubernetes API, started together and ended together.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::control_plane::{ControlPlane, ControlPlaneError};
use crate::files::write_private;
use crate::folder::{Folder, FolderError};
use crate::gobuild::{self, BuildError};
use crate::handle::Handle;
use crate::packages::{self, PackagesError};
use crate::postgres::{Postgres, PostgresError};
use crate::progress::Step;
use crate::shared::HANDLE_VARIABLE;

/// Why a testbed could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// A package is missing.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// The control plane's programs are missing.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no folder to put it in.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Postgres did not start.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Kubernetes did not start.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The file that tells other processes of it could not be written.
    #[error("cannot write {path}: {source}")]
    Handle {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A running testbed, stopped when dropped.
#[derive(Debug)]
pub struct Testbed {
    handle: Handle,
    // Dropped in this order: the folder last, when nobody writes to it any more.
    _control_plane: ControlPlane,
    postgres: Postgres,
    _folder: Folder,
}

impl Testbed {
    /// Installs and builds what is missing, then starts Postgres and the Kubernetes API
    /// side by side, telling each step on standard error.
    ///
    /// Call this on the main thread of a program or the thread of a test: the processes
    /// end when that thread does.
    ///
    /// # Errors
    /// When any part is missing or does not start; nothing is left behind then.
    pub async fn start() -> Result<Self, TestbedError> {
        packages::install().await?;
        let folder = Folder::new()?;
        let bin = folder.path().join("bin");
        gobuild::install(&bin).await?;
        let (postgres, control_plane) = tokio::try_join!(
            start_postgres(folder.path()),
            start_control_plane(&bin, folder.path())
        )?;
        let handle = Handle {
            folder: folder.path().to_owned(),
            kubeconfig: control_plane.kubeconfig().to_owned(),
            api_url: control_plane.url().to_owned(),
            api_authority: control_plane.authority().to_owned(),
            postgres: postgres.server().clone(),
        };
        write_handle(&handle)?;
        Ok(Self {
            handle,
            _control_plane: control_plane,
            postgres,
            _folder: folder,
        })
    }

    /// How to reach it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The Postgres server, to stop, kill and restart it.
    pub fn postgres(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// The variables with which a child process finds the testbed: through
    /// [`crate::shared()`], or as a script with `kubectl`.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let mut path = OsString::from(self.handle.bin());
        path.push(":");
        path.push(inherited);
        vec![
            (HANDLE_VARIABLE, handle_file(&self.handle.folder).into()),
            ("KUBECONFIG", self.handle.kubeconfig.clone().into()),
            // Not in the home folder, which is none of the testbed's.
            ("KUBECACHEDIR", self.handle.kubectl_cache().into()),
            ("PATH", path),
        ]
    }
}

async fn start_postgres(folder: &Path) -> Result<Postgres, TestbedError> {
    let step = Step::quiet("postgres");
    let postgres = Postgres::start(folder).await?;
    step.done("ready");
    Ok(postgres)
}

async fn start_control_plane(bin: &Path, folder: &Path) -> Result<ControlPlane, TestbedError> {
    let step = Step::quiet("etcd and kube-apiserver");
    let control_plane = ControlPlane::start(bin, folder).await?;
    step.done("ready");
    Ok(control_plane)
}

fn write_handle(handle: &Handle) -> Result<(), TestbedError> {
    let path = handle_file(&handle.folder);
    serde_json::to_vec(handle)
        .map_err(io::Error::from)
        .and_then(|json| write_private(&path, &json))
        .map_err(|source| TestbedError::Handle {
            path: path.display().to_string(),
            source,
        })
}

fn handle_file(folder: &Path) -> std::path::PathBuf {
    folder.join("testbed.json")
}
