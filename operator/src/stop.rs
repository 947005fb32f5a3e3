//! A signal that something has to end, for any number of listeners.

use std::sync::Arc;

use tokio::sync::watch;

/// Given once, heard by everyone, now or later.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Not given yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Gives it.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Resolves when it is given.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let mut heard = self.0.subscribe();
        let keep_sender = Arc::clone(&self.0);
        async move {
            // Fails only without a sender, and that is kept.
            let _ = heard.wait_for(|stopped| *stopped).await;
            drop(keep_sender);
        }
    }
}
