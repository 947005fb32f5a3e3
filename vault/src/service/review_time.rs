//! When brokers attach again, and when the API server is asked about them then.

use std::time::Duration;

use super::VaultService;

/// Brokers that are reviewed again in any one second, when there are many.
const REVIEWS_SPREAD: u64 = 10;

impl VaultService {
    /// Longer when many brokers are attached, so that reviews stay few a second.
    pub(crate) fn review_period(&self) -> Duration {
        let spread = Duration::from_secs(self.attached() / REVIEWS_SPREAD);
        self.settings().review_period.max(spread)
    }
}

/// Whether a broker that attaches with so much time left is reviewed again. It
/// was told to come after half of its time, so that its review comes with it:
/// one attach for each period.
pub(super) fn is_review_time(left: Duration, period: Duration) -> bool {
    left <= period / 2
}

/// When a broker is to attach again: at random, so that brokers which attached
/// together do not all come back together. With what it deducts to have time for
/// another try (a tenth), it comes after half of the time left.
pub(super) fn attach_again(left: Duration, fraction: f64) -> Duration {
    left.mul_f64(0.6 + 0.35 * fraction)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{attach_again, is_review_time};

    const PERIOD: Duration = Duration::from_secs(300);

    /// Attaches and reviews of a broker over so many periods. It comes back after
    /// nine tenths of what it is told, as ours does.
    fn attaches_and_reviews(periods: u32, fraction: f64) -> (u32, u32) {
        let (mut left, mut passed) = (PERIOD, Duration::ZERO);
        let (mut attaches, mut reviews) = (0, 0);
        while passed < PERIOD * periods {
            let away = attach_again(left, fraction) * 9 / 10;
            assert!(away < left, "it comes when its review is overdue");
            (left, passed) = (left - away, passed + away);
            attaches += 1;
            if is_review_time(left, PERIOD) {
                left = PERIOD;
                reviews += 1;
            }
        }
        (attaches, reviews)
    }

    #[test]
    fn every_attach_is_reviewed_and_there_are_at_most_two_in_a_period() {
        for fraction in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let (attaches, reviews) = attaches_and_reviews(100, fraction);
            assert_eq!(attaches, reviews, "{fraction}");
            assert!((100..200).contains(&attaches), "{fraction}: {attaches}");
        }
    }
}
