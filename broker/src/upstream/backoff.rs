//! How long to wait before trying again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Doubling delays with jitter, so that brokers that lost the vault together
/// do not come back together.
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The next delay: between half of it and all of it, by `jitter`.
    pub(crate) fn delay(&mut self, jitter: u8) -> Duration {
        let ceiling = self.next;
        self.next = (ceiling * 2).min(LONGEST);
        ceiling / 2 + ceiling / 2 * u32::from(jitter) / 255
    }

    /// It worked: start again with short delays.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_start_again() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| backoff.delay(255).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.delay(255), FIRST);
    }

    #[test]
    fn jitter_spreads_a_delay_over_its_upper_half() {
        assert_eq!(Backoff::default().delay(0), Duration::from_millis(50));
        assert!(Backoff::default().delay(100) < Backoff::default().delay(200));
    }
}
