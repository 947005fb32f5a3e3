//! The revocation bench with few brokers: that it measures at all.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_simulated_broker_hears_of_every_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = std::env::var_os("BURSAR_TESTBED").expect("run by `testbed exec`");
    // A testbed of its own: the operator that it starts is the only one there.
    let output = Command::new(testbed)
        .args(["exec", "--", env!("CARGO_BIN_EXE_bursar-bench")])
        .args(["--only", "revocation", "--brokers", "3", "--target"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let summary = fs::read(folder.path().join("bench/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let names: Vec<_> = summary
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"revocation to last serve, 3 brokers, p99"),
        "{names:?}"
    );
    assert!(names.contains(&"retries of 3 brokers"), "{names:?}");
}
