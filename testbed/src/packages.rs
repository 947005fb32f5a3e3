//! The operating system's packages that a testbed needs.

use std::io;
use std::process::ExitStatus;

use tokio::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packages.sh");

/// Why the packages are not there.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The script could not be run at all.
    #[error("{SCRIPT}: {0}")]
    Start(#[from] io::Error),
    /// The script failed, and said why.
    #[error("{SCRIPT} failed ({0}); see above what to install")]
    Failed(ExitStatus),
}

/// Installs what is missing (with sudo where needed) if this is Debian or a relative of
/// it; the script says what it does on standard error.
///
/// # Errors
/// When something is missing that cannot be installed.
pub async fn install() -> Result<(), PackagesError> {
    let status = Command::new(SCRIPT).kill_on_drop(true).status().await?;
    if status.success() {
        Ok(())
    } else {
        Err(PackagesError::Failed(status))
    }
}
