//! How long an allowance may be served from.

use std::time::Duration;

use crate::clock::BootTime;

/// No vault hands out more than this; a longer one is a mistake and cut short.
const LONGEST: Duration = Duration::from_secs(900);

/// A lease: it begins when the broker *sent* the request for it, so that time
/// on the way only makes it shorter, and a thousandth is taken off for clocks
/// that run at different speeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    begins: BootTime,
    ends: BootTime,
    renew_from: BootTime,
}

impl Lease {
    /// The lease of `length` that was asked for at `sent`.
    ///
    /// It is due for renewal half way through, give or take a tenth of its
    /// length: `jitter` (any byte, evenly distributed) keeps brokers that
    /// started together from asking together.
    pub(crate) fn new(sent: BootTime, length: Duration, jitter: u8) -> Self {
        let length = length.min(LONGEST);
        let length = length - length / 1000;
        let tenth = length / 10;
        let renew_after = tenth * 4 + tenth * 2 * u32::from(jitter) / 255;
        Self {
            begins: sent,
            ends: sent.plus(length),
            renew_from: sent.plus(renew_after),
        }
    }

    /// Its whole length.
    pub(crate) fn length(&self) -> Duration {
        self.ends.since(self.begins)
    }

    /// Whether nothing may be served any more.
    pub(crate) fn is_over(&self, now: BootTime) -> bool {
        now >= self.ends
    }

    /// Whether it is time to ask for another.
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        now >= self.renew_from
    }

    /// How much of it is left.
    pub(crate) fn remaining(&self, now: BootTime) -> Duration {
        self.ends.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: BootTime = BootTime::after_boot(Duration::from_secs(1000));
    const MINUTE: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> BootTime {
        SENT.plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_lease_ends_a_thousandth_early() {
        let lease = Lease::new(SENT, MINUTE, 0);
        assert!(!lease.is_over(at(59_939)));
        assert!(lease.is_over(at(59_940)));
        assert_eq!(lease.remaining(at(0)), Duration::from_millis(59_940));
        assert_eq!(lease.remaining(at(70_000)), Duration::ZERO);
    }

    #[test]
    fn a_lease_of_no_length_is_over_when_it_begins() {
        assert!(Lease::new(SENT, Duration::ZERO, 0).is_over(SENT));
    }

    #[test]
    fn an_absurd_lease_is_cut_short() {
        let lease = Lease::new(SENT, Duration::from_millis(u64::MAX), 0);
        assert!(lease.is_over(SENT.plus(LONGEST)));
    }

    #[test]
    fn renewal_is_spread_around_half_of_the_lease() {
        let due_at = |jitter| {
            let lease = Lease::new(SENT, MINUTE, jitter);
            (0..60_000)
                .find(|millis| lease.is_due(at(*millis)))
                .unwrap()
        };
        assert_eq!(due_at(0), 23_976);
        assert_eq!(due_at(255), 35_964);
        assert!(due_at(100) < due_at(101));
    }
}
