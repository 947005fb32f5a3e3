//! The bench of reports with few brokers: that each count of brokers has its rows.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn reports_of_each_count_of_brokers_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = std::env::var_os("BURSAR_TESTBED").expect("run by `testbed exec`");
    // A testbed of its own: the operator that it starts is the only one there.
    let output = Command::new(testbed)
        .args(["exec", "--", env!("CARGO_BIN_EXE_bursar-bench")])
        .args(["--only", "scale", "--reporting", "2,5", "--target"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let summary = fs::read(folder.path().join("bench/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    for brokers in [2, 5] {
        for records in ["1 record", "10 records"] {
            let name = format!("reports a second, {brokers} brokers, {records} each");
            let mut rows = summary.as_array().unwrap().iter();
            let row = rows.find(|row| row["name"] == *name).expect(&name);
            assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
            let how = row["how"].as_str().unwrap();
            assert!(how.contains("cores: vault"), "{how}");
        }
    }
}
