//! Runs the benchmarks as a person does.

use std::process::Command;

use serde_json::Value;

/// The rows of one part, measured small.
pub(crate) fn rows(args: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let testbed = std::env::var_os("BURSAR_TESTBED").expect("run by `testbed exec`");
    // A testbed of its own: the operator that it starts is the only one there.
    let output = Command::new(testbed)
        .args(["exec", "--", env!("CARGO_BIN_EXE_bursar-bench")])
        .args(args)
        .arg("--target")
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary = std::fs::read(folder.path().join("bench/summary.json")).unwrap();
    serde_json::from_slice(&summary).unwrap()
}

/// The row of this name.
pub(crate) fn row<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    let found = rows.iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {rows:#?}"))
}
