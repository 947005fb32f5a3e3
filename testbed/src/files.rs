//! Files that only this user can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file with mode 0600.
pub(crate) fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)
}

/// Replaces a file in one step: who reads it at that moment gets the old or the new
/// contents, never a part. Several may do so at the same time.
pub(crate) fn replace_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    static FRESH: AtomicU64 = AtomicU64::new(0);
    let number = FRESH.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("new-{}-{number}", std::process::id()));
    write_private(&fresh, contents)?;
    fs::rename(&fresh, path)
}
