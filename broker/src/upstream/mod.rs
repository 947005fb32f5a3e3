//! The way to the vault: connecting, attaching, and the loops that run while
//! attached.

pub(crate) mod backoff;
pub(crate) mod calls;
pub(crate) mod grants;
pub(crate) mod reports;
pub(crate) mod session;
pub(crate) mod watch;
