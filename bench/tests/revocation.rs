//! The revocation bench with few brokers: that it measures at all.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use support::{row, rows};

#[test]
fn every_simulated_broker_hears_of_every_revocation() {
    let rows = rows(&["--only", "revocation", "--brokers", "3"]);
    row(&rows, "revocation to last serve, 3 brokers, p99");
    row(&rows, "retries of 3 brokers");
}
