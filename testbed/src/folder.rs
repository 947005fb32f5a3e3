//! The private folder in which a testbed keeps everything.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Why the folder could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a folder in {}: {source}", parent.display())]
pub struct FolderError {
    parent: PathBuf,
    source: io::Error,
}

/// A folder that is removed when dropped, and also when this process is killed.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    /// Makes a fresh folder below the system's folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self, FolderError> {
        let parent = std::env::temp_dir();
        Self::below(&parent).map_err(|source| FolderError { parent, source })
    }

    fn below(parent: &Path) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix("bursar-testbed-")
            .tempdir_in(parent)?;
        // Started by root, Postgres runs as another user, who has to pass through.
        let mode = if crate::user::is_root() { 0o711 } else { 0o700 };
        fs::set_permissions(made.path(), Permissions::from_mode(mode))?;
        // A process of its own removes the folder as soon as the pipe to it closes: on
        // drop, and just so when this process dies without dropping anything. It tries
        // again because processes that die with us may be writing their last lines.
        let remover = Command::new("sh")
            .args([
                "-c",
                r#"cat; for try in $(seq 100); do rm -rf "$0" && exit; sleep 0.1; done"#,
            ])
            .arg(made.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self {
            path: made.keep(),
            remover,
        })
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Waiting closes the pipe first.
        let _ = self.remover.wait();
    }
}
