//! When to look at a failed object again: later each time, and not all at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_seal::Random;

/// Failures in a row, by object.
pub(crate) struct Backoff<K> {
    first: Duration,
    longest: Duration,
    random: Arc<dyn Random>,
    failures: Mutex<HashMap<K, u32>>,
}

impl<K: Clone + Eq + Hash> Backoff<K> {
    /// The first pause is up to `first`; each further one is up to twice the one before it, and
    /// none is longer than `longest`.
    pub(crate) fn new(first: Duration, longest: Duration, random: Arc<dyn Random>) -> Self {
        Self {
            first,
            longest,
            random,
            failures: Mutex::default(),
        }
    }

    /// Counts a failure of `key` and gives the pause before the next attempt.
    pub(crate) fn failed(&self, key: &K) -> Duration {
        let failures = {
            let mut all = self.lock();
            let failures = all.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let mut byte = [u8::MAX];
        // Without randomness the pause is the full one: still correct, only less spread.
        let _ = self.random.fill(&mut byte);
        pause(self.first, self.longest, failures, byte[0])
    }

    /// How often `key` has failed since it last succeeded.
    pub(crate) fn failures(&self, key: &K) -> u32 {
        self.lock().get(key).copied().unwrap_or_default()
    }

    /// Forgets the failures of `key`.
    pub(crate) fn succeeded(&self, key: &K) {
        self.lock().remove(key);
    }

    /// All that wait for another attempt.
    pub(crate) fn failing(&self) -> Vec<K> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        // Nothing panics while it is held, and a count is never half written.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between one half and the whole of first * 2^(failures - 1), by `jitter`.
fn pause(first: Duration, longest: Duration, failures: u32, jitter: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = first.saturating_mul(1 << doublings).min(longest);
    full / 2 + full / 2 * u32::from(jitter) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(300);

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let full = |failures| pause(FIRST, LONGEST, failures, u8::MAX).as_secs();
        let pauses: Vec<u64> = (1..=11).map(full).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(full(u32::MAX), 300);
    }

    #[test]
    fn jitter_takes_at_most_half_of_a_pause() {
        for failures in 1..40 {
            let (low, high) = (
                pause(FIRST, LONGEST, failures, 0),
                pause(FIRST, LONGEST, failures, 255),
            );
            assert_eq!(low * 2, high);
        }
    }
}
