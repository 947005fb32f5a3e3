//! Points at which the order of concurrent steps can be set from outside.
//!
//! A grant and a revocation meet in a few places, and every order of them must
//! come out right. The proof runs all orders through this trait; in service,
//! nothing waits here.

use futures::future::BoxFuture;

/// A point in the work of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A grant was decided and is about to be committed.
    GrantDecided,
    /// It was committed, and is about to be read again.
    GrantCommitted,
    /// Changes were read from the log, and their holders are about to be listed.
    ChangesRead,
    /// The holders were told, as far as they watch here.
    HoldersTold,
}

/// Waits at a [`Stage`] until the work may go on.
pub trait Stages: Send + Sync + 'static {
    /// Called when the work has come this far.
    fn reached(&self, stage: Stage) -> BoxFuture<'_, ()>;
}

/// Waits nowhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStages;

impl Stages for NoStages {
    fn reached(&self, _: Stage) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
