//! The tour of the README: the whole product, from `kubectl apply` to a revoked token.

use std::process::Command;

#[test]
fn the_tour_ends_well_and_leaves_nothing() {
    // `make build` made the operator and the broker that the tour starts.
    let tour = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .arg("demo")
        .output()
        .expect("testbed starts");
    let (said, told) = (
        String::from_utf8_lossy(&tour.stdout),
        String::from_utf8_lossy(&tour.stderr),
    );
    assert!(tour.status.success(), "{said}\n{told}");
    assert!(said.contains("That was the tour."), "{said}");
    assert!(told.contains("everything is stopped and removed"), "{told}");
}
