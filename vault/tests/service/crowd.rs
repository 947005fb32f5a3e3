//! Many brokers at the same moment, as after a revocation.

use std::time::Duration;

use bursar_vault::service::{Settings, Stage};
use tokio::task::JoinSet;
use tonic::Status;

use crate::support::broker::served;
use crate::support::gates::Gates;
use crate::support::{Bed, CONNECTIONS};

/// Many more than there are connections to the database.
const BROKERS: u16 = 300;
/// Longer than anything waits for a connection to the database.
const LONG: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_reports_at_once_waits_its_turn_and_nobody_is_refused() {
    let bed = Bed::new("crowd").await;
    let gates = Gates::new();
    let settings = Settings {
        reviews_per_second: BROKERS.into(),
        stages: gates.clone(),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let (team, ..) = bed.team_with_token().await;
    let mut holders = Vec::new();
    for _ in 0..BROKERS {
        let mut broker = bed.broker(&replica, &team, "app").await;
        let granted = broker.granted("ana", "github").await;
        holders.push((broker, granted));
    }

    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS {
        slow.push(bed.broker(&replica, &team, "app").await);
    }

    // As many as there are connections are held up in the middle of a grant.
    let mut calls: JoinSet<Result<(), Status>> = JoinSet::new();
    gates.close_all();
    for mut broker in slow {
        calls.spawn(async move { broker.ask("ana", Some("github")).await.map(drop) });
    }
    gates.until_reached(Stage::GrantDecided).await;
    for (mut broker, granted) in holders {
        calls.spawn(async move {
            let records = vec![served(&granted, 1)];
            let reported = broker.report(records, vec![granted.allowance_id]).await;
            reported.map(drop)
        });
    }
    tokio::time::sleep(LONG).await;
    gates.open(Stage::GrantDecided);
    gates.open(Stage::GrantCommitted);
    for answered in calls.join_all().await {
        answered.unwrap();
    }
    let reported = "select count(*) from allowance where state = 'Closed' and used = 1";
    assert_eq!(bed.count(reported).await, i64::from(BROKERS));
    replica.stop().await;
}
