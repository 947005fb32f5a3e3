//! Times on the command line.

use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// A point in time, or how long ago.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Since {
    At(Timestamp),
    Ago(SignedDuration),
}

impl Since {
    /// The point in time.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let ago = duration(text)
            .map_err(|_| "neither a duration (90s, 1h30m, 7d) nor a time (2026-11-21T10:00:00Z)")?;
        Ok(Self::Ago(ago.try_into().unwrap_or(SignedDuration::MAX)))
    }
}

/// A duration as `90s`, `1h30m` or `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = "not a duration, such as 90s, 1h30m or 7d";
    let span: Span = text.parse().map_err(|_| wrong)?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).map_err(|_| wrong)?;
    Duration::try_from(duration).map_err(|_| wrong.to_owned())
}

/// As `1.4 s`, `75 s` or `12 min`.
pub(crate) fn for_people(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..180 => format!("{} s", duration.as_secs()),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::{Since, duration, for_people};

    #[test]
    fn times_are_points_or_durations_before_now() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Since>().unwrap().at(now).to_string();
        assert_eq!(at("1h30m"), "2026-11-21T10:30:00Z");
        assert_eq!(at("7d"), "2026-11-14T12:00:00Z");
        assert_eq!(at("2026-01-01T01:00:00+01:00"), "2026-01-01T00:00:00Z");
        assert_eq!("5s".parse(), Ok(Since::Ago(SignedDuration::from_secs(5))));
        for wrong in ["", "1", "-1h", "yesterday", "2026-01-01", "1 month"] {
            let told = wrong.parse::<Since>().unwrap_err();
            assert!(told.contains(" nor a time "), "{told}");
        }
    }

    #[test]
    fn durations_are_printed_in_the_unit_that_matters() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        let wrong = duration("2026-11-21T10:00:00Z").unwrap_err();
        assert_eq!(wrong, "not a duration, such as 90s, 1h30m or 7d");
        assert_eq!(for_people(Duration::from_millis(1_440)), "1.4 s");
        assert_eq!(for_people(Duration::from_secs(75)), "75 s");
        assert_eq!(for_people(Duration::from_secs(12 * 60)), "12 min");
    }
}
