//! Medians and percentiles.

use std::time::Duration;

/// At least one measurement of the same thing, in rising order.
#[derive(Debug, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// `None` when there is nothing in it.
    pub fn new(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        (!samples.is_empty()).then_some(Self(samples))
    }

    /// The same for durations, kept in milliseconds.
    pub fn of_milliseconds(samples: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::new(samples.into_iter().map(milliseconds))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `percent` of all do not exceed (nearest rank).
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (percent * self.0.len()).div_ceil(100).max(1);
        self.0[rank.min(self.0.len()) - 1]
    }

    /// The one in the middle; the mean of the two when their number is even.
    pub fn median(&self) -> f64 {
        let upper = self.0[self.0.len() / 2];
        let lower = self.0[(self.0.len() - 1) / 2];
        f64::midpoint(lower, upper)
    }

    /// The greatest.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// A duration in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn percentiles_are_samples_and_medians_lie_in_the_middle() {
        let hundred = Samples::new((1..=100).rev().map(f64::from)).unwrap();
        assert_eq!(hundred.percentile(1), 1.0);
        assert_eq!(hundred.percentile(50), 50.0);
        assert_eq!(hundred.percentile(99), 99.0);
        assert_eq!(hundred.percentile(100), 100.0);
        assert_eq!(hundred.median(), 50.5);
        assert_eq!(hundred.max(), 100.0);

        let three = Samples::new([9.0, 1.0, 5.0]).unwrap();
        assert_eq!(three.median(), 5.0);
        assert_eq!(three.percentile(99), 9.0);
    }

    #[test]
    fn no_samples_have_no_percentile() {
        assert!(Samples::new([]).is_none());
    }
}
