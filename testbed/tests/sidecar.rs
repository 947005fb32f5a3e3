//! `testbed sidecar`, as far as it goes without an operator; the tour of `testbed demo` has
//! the rest.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn sidecar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_testbed"))
        .arg("sidecar")
        .args(arguments)
        .env_remove("BURSAR_TESTBED_STATE")
        .output()
        .expect("testbed starts")
}

#[test]
fn a_shell_without_a_testbed_is_told_how_to_get_one() {
    let output = sidecar(&["--namespace", "team-a", "--service-account", "me"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("make up"), "{told}");
    assert!(told.contains("target/testbed/env"), "{told}");
}

#[test]
fn a_sidecar_is_of_a_new_pod_or_of_one_that_is_there() {
    let both = [
        "--namespace",
        "team-a",
        "--service-account",
        "me",
        "--pod",
        "app",
    ];
    for arguments in [&both[..2], &both[..]] {
        assert!(!sidecar(arguments).status.success(), "{arguments:?}");
    }
}
