//! Time as a parameter.

use jiff::Timestamp;

/// What time it is, to the vault.
///
/// Windows, leases and expiry are decided by the database's clock alone, so
/// that replicas agree; this one serves everything else (the age of a token
/// shown by a broker, a certificate).
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The machine's clock. Only `main` makes one; all other code is handed a
/// [`Clock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the parameter meets the machine's clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
