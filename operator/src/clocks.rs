//! Whether the database's clock and ours agree. The database's decides when a token expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};

use crate::metrics::Metrics;

/// A difference that somebody should hear of.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Compares the two whenever a time of the database's comes by.
pub(crate) struct Clocks {
    metrics: Arc<Metrics>,
    differed: AtomicBool,
}

impl Clocks {
    /// Nothing is known yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            differed: AtomicBool::new(false),
        }
    }

    /// The database gave the time `theirs` to a call that took from `asked` to `answered` by our
    /// clock.
    pub(crate) fn compare(&self, asked: Timestamp, theirs: Timestamp, answered: Timestamp) {
        let ahead = ahead(asked, theirs, answered);
        let seconds = ahead.as_secs_f64();
        self.metrics.database_clock_ahead(seconds);
        let differ = ahead.abs() > TOLERANCE;
        if differ && !self.differed.swap(differ, Ordering::Relaxed) {
            tracing::warn!(
                "the database's clock is {seconds:.1} s ahead of this machine's; the database's \
                 decides when tokens expire: have both set by NTP"
            );
        }
        self.differed.store(differ, Ordering::Relaxed);
    }
}

/// How far their clock is ahead of ours: only what lies outside the call is a difference.
fn ahead(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> SignedDuration {
    if theirs > answered {
        theirs.duration_since(answered)
    } else if theirs < asked {
        theirs.duration_since(asked)
    } else {
        SignedDuration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::ahead;

    #[test]
    fn a_slow_answer_is_no_difference_of_clocks() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let seconds = SignedDuration::from_secs;
        assert_eq!(ahead(at(100), at(100), at(130)), SignedDuration::ZERO);
        assert_eq!(ahead(at(100), at(130), at(130)), SignedDuration::ZERO);
        assert_eq!(ahead(at(100), at(137), at(130)), seconds(7));
        assert_eq!(ahead(at(100), at(93), at(130)), seconds(-7));
    }
}
