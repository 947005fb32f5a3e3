//! Windows that end, and what is charged to which.

use std::num::NonZeroU32;

use bursar_vault::rows::Window;
use bursar_vault::{QuotaSpec, QuotaState};

use super::{UNBALANCED, team};
use crate::support::broker::Broker;
use crate::support::replica::Replica;
use crate::support::{Bed, Team, quota};

/// A quota of `ana`'s on so many reads in each so many seconds, and a broker.
async fn scene(bed: &Bed, units: i64, seconds: u32) -> (Team, QuotaSpec, Replica, Broker) {
    let replica = bed.replica().await;
    let (team, ana) = team(bed).await;
    let limit = QuotaSpec {
        window: Window::Period(NonZeroU32::new(seconds).unwrap()),
        ..quota("limit", ana, units)
    };
    bed.apply_quota(&team, &limit).await;
    let broker = bed.broker(&replica, &team, "app").await;
    (team, limit, replica, broker)
}

#[tokio::test]
async fn a_period_begins_anew_and_what_is_returned_goes_where_it_was_charged() {
    let bed = Bed::new("quota_period").await;
    let (_, _, replica, mut broker) = scene(&bed, 10, 3_600).await;
    let first = broker.granted("ana", "github").await;
    let held = first.units;
    let mut rest = Vec::new();
    let retry_after_ms = loop {
        match broker.ask("ana", Some("github")).await.unwrap() {
            Ok(granted) => rest.push(granted),
            Err(denied) => break denied.retry_after_ms.unwrap(),
        }
    };
    assert!(retry_after_ms <= 3_600_000);
    // An hour passes.
    for table in ["quota_window", "allowance_charge"] {
        bed.tamper(&format!("update {table} set window_no = window_no - 1"))
            .await;
    }

    let next = broker.granted("ana", "github").await;
    let windows = "select count(*) from quota_window";
    assert_eq!(bed.count(windows).await, 2);
    broker
        .report(vec![], vec![first.allowance_id.clone()])
        .await
        .unwrap();
    let of_window = |order: &str| {
        format!("select charged from quota_window order by window_no {order} limit 1")
    };
    let rest: u32 = rest.iter().map(|granted| granted.units).sum();
    assert_eq!(held + rest, 10);
    assert_eq!(bed.count(&of_window("asc")).await, i64::from(rest));
    assert_eq!(bed.count(&of_window("desc")).await, i64::from(next.units));
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn an_allowance_ends_with_the_window_it_was_charged_to() {
    let bed = Bed::new("quota_window_end").await;
    let (_, _, replica, mut broker) = scene(&bed, 1_000, 2).await;
    for _ in 0..5 {
        let granted = broker.granted("ana", "github").await;
        assert!(granted.expires_in_ms <= 2_000, "{}", granted.expires_in_ms);
    }
    let beyond = "select count(*) from allowance a
                  join allowance_charge c using (tenant_id, allowance_id)
                  where a.expires_time > to_timestamp((c.window_no + 1) * 2)";
    assert_eq!(bed.count(beyond).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn what_was_checked_is_what_is_charged_though_the_next_window_begins_meanwhile() {
    let bed = Bed::new("quota_meanwhile").await;
    let (_, _, replica, mut broker) = scene(&bed, 10, 3_600).await;
    assert_eq!(broker.granted("ana", "github").await.units, 6);

    // The next grant has chosen its window and waits for it.
    let held = bed.lock("quota_window").await;
    let asking = tokio::spawn(async move { broker.granted("ana", "github").await.units });
    bed.until_waiting(1).await;
    // Another one, whose clock is ahead, has used up the next.
    bed.tamper(
        "insert into quota_window (tenant_id, usage_id, window_no, description, charged, cap)
         select tenant_id, usage_id, window_no + 1, description, 10, 10 from quota_window",
    )
    .await;
    held.commit().await.unwrap();
    assert_eq!(asking.await.unwrap(), 2);
    let charged = bed
        .texts("select charged::text from quota_window order by window_no")
        .await;
    assert_eq!(charged, ["8", "10"]);
    replica.stop().await;
}

#[tokio::test]
async fn after_a_clock_was_set_back_the_status_tells_of_the_window_that_is_charged() {
    let bed = Bed::new("quota_set_back").await;
    let (team, limit, replica, mut broker) = scene(&bed, 10, 3_600).await;
    broker.granted("ana", "github").await;
    let before = bed.apply_quota(&team, &limit).await;
    assert_eq!(before.used, Some(6));
    for table in ["quota_window", "allowance_charge"] {
        bed.tamper(&format!("update {table} set window_no = window_no + 1"))
            .await;
    }
    broker.granted("ana", "github").await;
    let after = bed.apply_quota(&team, &limit).await;
    assert_eq!(after.used, Some(8));
    let ends = |state: QuotaState| state.window_end_time.unwrap();
    assert!(ends(before) < ends(after));
    replica.stop().await;
}
