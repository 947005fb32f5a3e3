//! How many files this process and its children may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to what the system lets us have: a thousand connections are
/// a thousand files on either side, and many a shell starts with 1,024.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_open_files() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?)
}
