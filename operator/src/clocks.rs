//! Whether the database's clock and ours agree. The database's decides when a token expires.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::metrics::Metrics;

/// A difference that somebody should hear of.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// Compares the two, and remembers whether they differed.
pub(crate) struct Clocks {
    metrics: Arc<Metrics>,
    differed: bool,
}

impl Clocks {
    /// Nothing is known yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            differed: false,
        }
    }

    /// The database gave the time `theirs` to a call that took from `asked` to `answered` by our
    /// clock.
    pub(crate) fn compare(&mut self, asked: Timestamp, theirs: Timestamp, answered: Timestamp) {
        let ahead = ahead(asked, theirs, answered);
        let seconds = ahead.as_secs_f64();
        self.metrics.database_clock_ahead(seconds);
        let differ = ahead.abs() > TOLERANCE;
        if differ && !self.differed {
            let side = if ahead.is_positive() {
                "ahead of"
            } else {
                "behind"
            };
            tracing::warn!(
                "the database's clock is {:.1} s {side} this machine's, and the database's decides \
                 when tokens expire: have both set by NTP",
                seconds.abs()
            );
        } else if self.differed && !differ {
            tracing::info!("the database's clock and this machine's agree again");
        }
        self.differed = differ;
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
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use jiff::{SignedDuration, Timestamp};

    use super::{Clocks, ahead};
    use crate::metrics::Metrics;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `act` runs.
    fn logged(act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let lines = lines.0.lock().unwrap();
        String::from_utf8(lines.clone()).unwrap()
    }

    #[test]
    fn a_clock_that_is_off_is_said_once_and_so_is_its_end() {
        let metrics = Arc::new(Metrics::new());
        let mut clocks = Clocks::new(Arc::clone(&metrics));
        let mut compare = |theirs| logged(|| clocks.compare(at(100), at(theirs), at(100)));
        assert_eq!(compare(104), "");
        assert!(compare(37).contains("the database's clock is 63.0 s behind this machine's"));
        let value = "bursar_database_clock_ahead_seconds -63.0\n";
        assert!(metrics.encode().unwrap().contains(value));
        assert_eq!(compare(37), "");
        assert!(compare(100).contains("agree again"));
        assert!(compare(163).contains("63.0 s ahead of this machine's"));
    }

    #[test]
    fn a_slow_answer_is_no_difference_of_clocks() {
        let seconds = SignedDuration::from_secs;
        assert_eq!(ahead(at(100), at(100), at(130)), SignedDuration::ZERO);
        assert_eq!(ahead(at(100), at(130), at(130)), SignedDuration::ZERO);
        assert_eq!(ahead(at(100), at(137), at(130)), seconds(7));
        assert_eq!(ahead(at(100), at(93), at(130)), seconds(-7));
    }
}
