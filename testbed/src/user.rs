//! Who runs the testbed.

/// The user that Debian's packages make for Postgres.
const POSTGRES_USER: &str = "postgres";

/// Whether this process has root's rights.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user to run Postgres as: it refuses to run as root.
pub(crate) fn for_postgres() -> Option<&'static str> {
    is_root().then_some(POSTGRES_USER)
}
