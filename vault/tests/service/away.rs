//! Postgres goes away and comes back.

use std::slice;
use std::time::Duration;

use bursar_testbed::until;
use tonic::Code;

use crate::support::broker::served;
use crate::support::{Bed, DEADLINE};

#[tokio::test]
async fn a_database_that_is_away_decides_nothing_and_loses_nothing() {
    let bed = Bed::new("away").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let (ana, bo) = (bed.user(&team, "ana").await, bed.user(&team, "bo").await);
    bed.token(&team, &ana, "github").await;
    bed.token(&team, &bo, "slack").await;
    let elsewhere = bed.controllers_elsewhere().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let held = broker.granted("ana", "github").await;
    let (mut events, _) = broker.watch().await;

    // This replica has no database any more; another one has, and revokes there.
    assert!(bed.shut_out().await > 0);
    let refused = broker.ask("bo", None).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    let refused = broker.report(vec![served(&held, 1)], vec![]).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unavailable);
    let mut gone = ana.clone();
    gone.suspended = true;
    elsewhere.apply_user(&team.tenant, &gone).await.unwrap();
    bed.let_in().await;

    // What happened meanwhile is told, and the same numbers are taken now.
    assert_eq!(events.recalled().await, slice::from_ref(&held.allowance_id));
    let granted = until(DEADLINE, Duration::from_millis(50), async || {
        broker.ask("bo", None).await.ok()
    });
    assert!(granted.await.expect("no answer within a minute").is_ok());
    assert_eq!(broker.request_no, 2);
    broker.report(vec![served(&held, 1)], vec![]).await.unwrap();
    assert_eq!(bed.count("select count(*) from allowance").await, 2);
    assert_eq!(bed.count("select count(*) from access_record").await, 1);
    replica.stop().await;
}
