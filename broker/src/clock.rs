//! The two clocks, as a parameter.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since the machine booted, suspend included (`CLOCK_BOOTTIME`).
///
/// Leases are counted on it: nobody can set it, and a machine that slept wakes
/// up with its leases over.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BootTime(Duration);

impl BootTime {
    /// The point in time `elapsed` after boot.
    #[must_use]
    pub const fn after_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The point in time `later` than this one.
    #[must_use]
    pub const fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time of day as milliseconds since the Unix epoch, UTC.
///
/// People set it, so it decides nothing but whether a JWT has expired; in
/// records it is the broker's claim.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Whole seconds since the Unix epoch, as JWTs count (RFC 7519 `NumericDate`).
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Where the time comes from.
pub trait Clock {
    /// For leases.
    fn boot(&self) -> BootTime;
    /// For JWTs and records.
    fn wall(&self) -> UnixMillis;
}

/// The kernel's clocks. Only `main` makes one; all other code is handed a
/// [`Clock`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> BootTime {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
        // The kernel counts up from zero and keeps nanoseconds below a second.
        BootTime(Duration::new(tv_sec.cast_unsigned(), tv_nsec as u32))
    }

    fn wall(&self) -> UnixMillis {
        // Read for every access, and a few milliseconds late at most: enough for
        // JWTs, whose times are seconds.
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
        UnixMillis(
            tv_sec
                .saturating_mul(1000)
                .saturating_add(tv_nsec / 1_000_000),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back() {
        let first = SystemClock.boot();
        assert!(SystemClock.boot() >= first);
        assert!(first > BootTime::after_boot(Duration::ZERO));
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        assert_eq!(UnixMillis(1_999).seconds(), 1);
        assert_eq!(UnixMillis(-1).seconds(), -1);
    }

    #[test]
    fn time_differences_never_underflow() {
        let early = BootTime::after_boot(Duration::from_secs(1));
        let late = early.plus(Duration::from_secs(2));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
