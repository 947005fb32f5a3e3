//! How often one may begin something, by who they are: a queue for each, first come, first
//! served, so that nobody waits behind others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was not used is saved up for this long.
const SAVED: Duration = Duration::from_secs(1);

/// Turns by who takes them.
pub(super) struct Pace<K> {
    /// Between two turns of one.
    interval: Duration,
    patience: Duration,
    /// When everything of one is saved up again; nobody is in here longer than until then.
    full: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Pace<K> {
    /// So many turns a second for each, and a queue of at most `patience`.
    pub(super) fn new(per_second: u32, patience: Duration) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second,
            patience,
            full: Mutex::default(),
        }
    }

    /// Waits for a turn of `key`; `None`, at once, when the queue is full.
    pub(super) async fn turn(&self, key: K) -> Option<()> {
        let wait = self.enqueue(key)?;
        tokio::time::sleep(wait).await;
        Some(())
    }

    /// How long it is until the turn.
    fn enqueue(&self, key: K) -> Option<Duration> {
        let now = Instant::now();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.retain(|_, full| *full > now);
        let before = full.get(&key).copied().unwrap_or(now);
        let after = before + self.interval;
        let wait = after.duration_since(now).saturating_sub(SAVED);
        if wait > self.patience {
            return None;
        }
        full.insert(key, after);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn each_has_a_queue_of_its_own_that_has_an_end() {
        let pace = Pace::new(10, Duration::from_secs(2));
        let wait = |key| pace.enqueue(key).map(|wait| wait.as_millis());
        for _ in 0..10 {
            assert_eq!(wait("a"), Some(0));
        }
        for turn in 1..=20 {
            assert_eq!(wait("a"), Some(turn * 100));
        }
        assert_eq!(wait("a"), None);
        assert_eq!(wait("b"), Some(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(wait("a"), Some(2_000));
        assert_eq!(wait("a"), None);
        // Nobody is remembered who did not ask of late.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(wait("b"), Some(0));
        assert_eq!(pace.full.lock().unwrap().len(), 1);
    }
}
