//! When the vault's changes are committed, as Postgres tells whoever listens.

use sqlx::postgres::PgListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The channel on which the vault announces changes. Postgres passes a
/// notification on when its transaction has been committed.
const CHANNEL: &str = "bursar_change";

/// The database does not tell.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen to the vault's changes: {0}")]
pub struct CommitsError(#[from] sqlx::Error);

/// The times of commits; stops listening when dropped.
#[derive(Debug)]
pub struct Commits {
    times: UnboundedReceiver<Instant>,
    listening: AbortHandle,
}

impl Commits {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn listen(database_url: &str) -> Result<Self, CommitsError> {
        let mut listener = PgListener::connect(database_url).await?;
        listener.listen(CHANNEL).await?;
        let (sender, times) = unbounded_channel();
        let task = tokio::spawn(async move {
            while listener.recv().await.is_ok() {
                if sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            times,
            listening: task.abort_handle(),
        })
    }

    /// The first commit since `start` that was heard of; forgets the others.
    pub fn first_since(&mut self, start: Instant) -> Option<Instant> {
        let mut first = None;
        while let Ok(time) = self.times.try_recv() {
            if time >= start {
                first = first.or(Some(time));
            }
        }
        first
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
