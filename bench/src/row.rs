//! One line of the result.

use serde::Serialize;

/// What was measured, in which unit, and against what.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured; unique within a run.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What the bare server did in the same run, in the same unit.
    pub baseline: Option<f64>,
    /// `value` over `baseline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What the design asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether it was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_met: Option<bool>,
    /// Under which conditions.
    pub how: String,
}

/// A bound of the design.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The value is to stay below this, in the row's unit.
    Below(f64),
    /// The value is to be at most this, in the row's unit.
    AtMost(f64),
    /// The ratio is to be at least this.
    RatioAtLeast(f64),
}

impl Row {
    /// A figure that stands for itself.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            baseline: None,
            ratio: None,
            target: None,
            target_met: None,
            how: String::new(),
        }
    }

    /// Says under which conditions it was measured.
    #[must_use]
    pub fn how(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }

    /// Sets what it is compared with.
    #[must_use]
    pub fn over(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self.ratio = Some(self.value / baseline);
        self
    }

    /// Sets what the design asks for.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.target_met = Some(match target {
            Target::Below(limit) => self.value < limit,
            Target::AtMost(limit) => self.value <= limit,
            Target::RatioAtLeast(limit) => self.ratio.is_some_and(|ratio| ratio >= limit),
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Target};

    #[test]
    fn a_target_is_met_only_on_its_side_of_the_bound() {
        let met = |row: Row| row.target_met.unwrap();
        assert!(met(Row::new("a", 1.0, "calls").target(Target::AtMost(1.0))));
        assert!(!met(Row::new("a", 2.0, "calls").target(Target::AtMost(1.0))));
        assert!(met(Row::new("a", 0.9, "s").target(Target::Below(1.0))));
        assert!(!met(Row::new("a", 1.0, "s").target(Target::Below(1.0))));
        assert!(met(Row::new("a", 8.0, "/s")
            .over(10.0)
            .target(Target::RatioAtLeast(0.8))));
        assert!(!met(Row::new("a", 7.9, "/s")
            .over(10.0)
            .target(Target::RatioAtLeast(0.8))));
    }

    #[test]
    fn a_ratio_without_a_baseline_is_never_met() {
        let row = Row::new("a", 8.0, "/s").target(Target::RatioAtLeast(0.0));
        assert_eq!(row.target_met, Some(false));
    }

    #[test]
    fn a_row_has_name_value_unit_and_baseline_even_without_one() {
        let row =
            serde_json::to_value(Row::new("a", 1.5, "ms").target(Target::Below(2.0))).unwrap();
        assert_eq!(row["name"], "a");
        assert_eq!(row["value"], 1.5);
        assert_eq!(row["unit"], "ms");
        assert!(row["baseline"].is_null());
        assert!(row.get("ratio").is_none());
        assert_eq!(row["target"]["below"], 2.0);
    }
}
