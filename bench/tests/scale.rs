//! The bench of reports with few brokers: that each count of brokers has its rows.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use support::{row, rows};

#[test]
fn reports_of_each_count_of_brokers_are_measured() {
    let rows = rows(&["--only", "scale", "--reporting", "2,5"]);
    for brokers in [2, 5] {
        for records in ["1 record", "10 records"] {
            let name = format!("reports a second, {brokers} brokers, {records} each");
            let row = row(&rows, &name);
            assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
            let how = row["how"].as_str().unwrap();
            assert!(how.contains("cores: vault"), "{how}");
        }
    }
}
