//! The bench of a shared quota with few pods: that it measures at all, and that the quota
//! holds.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_quota_that_pods_share_is_used_up_to_the_last_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = std::env::var_os("BURSAR_TESTBED").expect("run by `testbed exec`");
    // A testbed of its own: the operator that it starts is the only one there.
    let output = Command::new(testbed)
        .args(["exec", "--", env!("CARGO_BIN_EXE_bursar-bench")])
        .args(["--only", "quota", "--pods", "3", "--target"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let summary = fs::read(folder.path().join("bench/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let value = |name: &str| {
        let mut rows = summary.as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("{name}: {summary}"))["value"].as_f64()
    };
    let calls = "vault calls per 100 accesses, last tenth of a quota shared by 3 pods";
    assert!(value(calls).unwrap() > 0.0);
    let off = "accesses more or fewer than the quota, 3 pods";
    assert_eq!(value(off), Some(0.0));
}
