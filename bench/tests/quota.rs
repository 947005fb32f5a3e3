//! The bench of a shared quota with few pods: that it measures at all, and that the quota
//! holds.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use support::{row, rows};

#[test]
fn a_quota_that_pods_share_is_used_up_to_the_last_and_no_further() {
    let rows = rows(&["--only", "quota", "--pods", "3"]);
    let calls = "vault calls per 100 accesses, last tenth of a quota shared by 3 pods";
    assert!(row(&rows, calls)["value"].as_f64().unwrap() > 0.0);
    let off = "accesses more or fewer than the quota, 3 pods";
    assert_eq!(row(&rows, off)["value"].as_f64(), Some(0.0));
}
