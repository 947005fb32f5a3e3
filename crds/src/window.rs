//! How long a quota counts before it starts anew.
#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its visibility into a function"
)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::syntax::{self, MAX_PERIOD, PERIOD_SENTENCE, WINDOW_SENTENCE};

/// How long a quota counts before it starts anew.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Period') == has(self.period)")
    .message(WINDOW_SENTENCE))]
pub struct Window {
    /// Lifetime: what is used stays used. Period: it counts from 0 again when a period is over.
    #[serde(rename = "type")]
    pub type_: WindowType,

    /// How long a window is, from 1m to 8784h (366 days), for example 24h or 1h30m (GEP-2257). One
    /// follows the other since 1970-01-01T00:00:00Z, so windows of 24h begin at midnight UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PERIOD))]
    #[x_kube(validation = syntax::period())]
    pub period: Option<String>,
}

/// Whether a quota ever starts anew.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum WindowType {
    /// What is used stays used.
    Lifetime,
    /// It counts from 0 again when a period is over.
    Period,
}

/// Why a window cannot be understood. The API server admits no such window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WindowError {
    /// A period that is missing, or that goes with no period.
    #[error("spec.window: {WINDOW_SENTENCE}")]
    TypeAndPeriod,
    /// Not a duration, not of whole seconds, too short or too long.
    #[error("spec.window.period: {PERIOD_SENTENCE}")]
    Period,
}

impl Window {
    /// The length of one window in seconds, from 60 to 31,622,400; `None` for a lifetime.
    ///
    /// Windows are the same if and only if this is the same, however their periods are written.
    ///
    /// # Errors
    /// When the API server would not admit it.
    pub fn seconds(&self) -> Result<Option<u32>, WindowError> {
        match (self.type_, &self.period) {
            (WindowType::Lifetime, None) => Ok(None),
            (WindowType::Period, Some(period)) => {
                let seconds = milliseconds(period).and_then(whole_seconds);
                Ok(Some(seconds.ok_or(WindowError::Period)?))
            }
            _ => Err(WindowError::TypeAndPeriod),
        }
    }
}

/// A duration as GEP-2257 writes it: one to four times up to five digits and a unit.
fn milliseconds(duration: &str) -> Option<u64> {
    let mut sum = 0;
    let mut rest = duration;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).take(5).count();
        let (number, after) = rest.split_at(digits);
        // "ms" is tried before "m", which it begins with.
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let (unit, after) = units
            .iter()
            .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
        sum += number.parse::<u64>().ok()? * unit;
        if after.is_empty() {
            return Some(sum);
        }
        rest = after;
    }
    None
}

/// Whole seconds between a minute and 366 days.
fn whole_seconds(milliseconds: u64) -> Option<u32> {
    let seconds = u32::try_from(milliseconds / 1000).ok()?;
    let allowed = milliseconds.is_multiple_of(1000) && (60..=366 * 86_400).contains(&seconds);
    allowed.then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(period: &str) -> Result<Option<u32>, WindowError> {
        let window = Window {
            type_: WindowType::Period,
            period: Some(period.into()),
        };
        window.seconds()
    }

    #[test]
    fn a_period_is_the_sum_of_its_parts() {
        for (period, expected) in [
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("90m", 5_400),
            ("5400s", 5_400),
            ("1h29m59s1000ms", 5_400),
            ("30m1h", 5_400),
            ("45m45m", 5_400),
            ("001h0030m", 5_400),
            ("60000ms", 60),
            ("59s1000ms", 60),
            ("8784h", 31_622_400),
        ] {
            assert_eq!(seconds(period), Ok(Some(expected)), "{period}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let wrong = "|h|24|24H|24 h| 24h|24h |24h\n|1d|1w|-1h|+1h|1.5h|1h-1m|P1D|PT1H|h1|60000000us|\
                     60\u{b5}s|1hm|1mms|1m1m1m1m1m|100000m|000001h|\u{661}h";
        for period in wrong.split('|') {
            assert_eq!(seconds(period), Err(WindowError::Period), "{period}");
        }
    }

    #[test]
    fn a_period_is_whole_seconds_between_a_minute_and_366_days() {
        let wrong =
            "0h|59s|59s999ms|60s1ms|61500ms|8784h1s|8784h1ms|8785h|99999h99999h99999h99999h";
        for period in wrong.split('|') {
            assert_eq!(seconds(period), Err(WindowError::Period), "{period}");
        }
    }

    #[test]
    fn a_lifetime_has_no_period_and_a_period_has_one() {
        let window = |type_, period: Option<&str>| Window {
            type_,
            period: period.map(Into::into),
        };
        let lifetime = window(WindowType::Lifetime, None);
        assert_eq!(lifetime.seconds(), Ok(None));
        for wrong in [
            window(WindowType::Lifetime, Some("24h")),
            window(WindowType::Period, None),
        ] {
            assert_eq!(wrong.seconds(), Err(WindowError::TypeAndPeriod));
        }
    }

    #[test]
    fn the_error_says_where_and_what_is_allowed() {
        let message = seconds("1d").unwrap_err().to_string();
        assert_eq!(
            message,
            "spec.window.period: A period is written in h, m, s and ms, for example 24h or 1h30m, \
             and is whole seconds: at least 1m and at most 8784h (366 days)."
        );
    }
}
