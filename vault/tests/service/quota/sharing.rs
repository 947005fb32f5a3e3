//! Brokers that share a quota, and what becomes of the share of one that was killed.

use std::time::Duration;

use bursar_vault::rows::Subject;
use bursar_vault::service::Settings;
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::grant_response::Answer;

use super::{Obedient, UNBALANCED, team};
use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, CHARGED, DEADLOCKS, Team, quota, user};

#[tokio::test]
async fn five_brokers_that_share_a_quota_read_just_as_often_as_it_says() {
    let bed = Bed::new("quota_shared").await;
    let (first, second) = (bed.replica().await, bed.replica().await);
    let (team, ana) = team(&bed).await;
    bed.apply_quota(&team, &quota("limit", ana, 100)).await;

    let mut brokers = Vec::new();
    for replica in [&first, &second, &first, &second, &first] {
        brokers.push(Obedient::new(bed.broker(replica, &team, "app").await).await);
    }
    let reading = brokers
        .into_iter()
        .map(|broker| broker.use_up("ana", "github"));
    let done = futures::future::join_all(reading).await;
    assert_eq!(done.iter().map(|(count, _)| count).sum::<u32>(), 100);
    for (_, denied) in &done {
        assert_eq!(denied.code(), Code::QuotaExhausted);
        assert_eq!(denied.quotas, ["limit"]);
        assert_eq!(
            denied.retry_after_ms, None,
            "a lifetime does not begin anew"
        );
    }
    assert_eq!(bed.count(CHARGED).await, 100);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    let recorded = "select sum(count)::bigint from access_record where outcome = 'Served'";
    assert_eq!(bed.count(recorded).await, 100);
    let counted = "select count(*) from denial where reason = 'QuotaExhausted'";
    assert_eq!(bed.count(counted).await, 1);
    first.stop().await;
    second.stop().await;
}

/// A quota of `ana`'s on so many reads, where what a killed broker holds soon lapses.
async fn quickly_lapsing(hint: &str, units: i64) -> (Bed, Replica, Team) {
    let bed = Bed::with_lease(hint, Duration::from_secs(1)).await;
    let quick = Settings {
        lapse_grace: Duration::from_secs(1),
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    let (team, ana) = team(&bed).await;
    bed.apply_quota(&team, &quota("limit", ana, units)).await;
    (bed, replica, team)
}

#[tokio::test]
async fn what_a_killed_broker_may_have_used_stays_charged() {
    let (bed, replica, team) = quickly_lapsing("quota_killed", 100).await;

    let mut killed = bed.broker(&replica, &team, "app").await;
    let granted = killed.granted("ana", "github").await;
    assert_eq!(granted.units, 64, "all that a run gets that holds none");
    killed
        .report(vec![served(&granted, 20)], vec![])
        .await
        .unwrap();
    drop(killed);
    let lapsed = "select count(*) from allowance where state = 'Lapsed'";
    bed.until_count(lapsed, 1).await;

    let other = Obedient::new(bed.broker(&replica, &team, "app").await).await;
    let (count, denied) = other.use_up("ana", "github").await;
    assert_eq!((count, denied.code()), (36, Code::QuotaExhausted));
    let unaccounted = "select sum(count)::bigint from access_record where outcome = 'Unaccounted'";
    assert_eq!(bed.count(unaccounted).await, 44);
    assert_eq!(bed.count(CHARGED).await, 100);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn after_a_lapse_a_service_accounts_counted_allowances_begin_with_one_access_and_double() {
    let (bed, replica, team) = quickly_lapsing("quota_slow_start", 10_000).await;
    // Nobody counts what she reads.
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "slack").await;

    let mut killed = bed.broker(&replica, &team, "app").await;
    let granted = killed.granted("ana", "github").await;
    assert_eq!(granted.units, 64, "all that a run gets that holds none");
    drop(killed);
    bed.until_count("select count(*) from slow_start", 1).await;

    let mut next = bed.broker(&replica, &team, "app").await;
    assert_eq!(next.granted("bo", "slack").await.units, 100);
    let mut sizes = Vec::new();
    for place in 0..13 {
        let granted = next.granted("ana", "github").await;
        sizes.push(granted.units);
        // The first stays, so that it holds some from then on.
        if place > 0 {
            let closed = vec![granted.allowance_id];
            next.report(vec![], closed).await.unwrap();
        }
    }
    assert_eq!(sizes[..8], [1, 2, 4, 8, 16, 32, 64, 100]);
    assert!(sizes[8..].iter().all(|units| *units == 100), "{sizes:?}");
    // It is over, until the next lapse.
    assert_eq!(bed.count("select count(*) from slow_start").await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn every_kind_of_subject_counts_its_own() {
    let bed = Bed::new("quota_subjects").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut ana = user("ana");
    ana.workloads.push("batch".parse().unwrap());
    bed.apply_user(&team, &ana).await;
    let github = bed.token(&team, &ana, "github").await;
    bed.token(&team, &ana, "slack").await;
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "pager").await;
    let quotas = [
        quota("github", Subject::Token(github.id), 1),
        quota(
            "batch",
            Subject::ServiceAccount("batch".parse().unwrap()),
            1,
        ),
        quota("each", Subject::EachUser, 3),
    ];
    let ids = quotas.each_ref().map(|quota| quota.id);
    for (place, quota) in quotas.iter().enumerate() {
        bed.apply_quota_of(&team, quota, &ids[..=place]).await;
    }

    let mut app = bed.broker(&replica, &team, "app").await;
    let mut batch = bed.broker(&replica, &team, "batch").await;
    // One access each, so that the order of grants is all that counts.
    let one = async |broker: &mut Broker, user: &str, token: &str| {
        let number = broker.request_no + 1;
        let answer = broker.grant_numbered(number, user, Some(token), 1).await;
        broker.request_no = number;
        matches!(answer.unwrap().answer.unwrap(), Answer::Granted(_))
    };
    assert!(one(&mut app, "ana", "github").await);
    assert!(
        !one(&mut app, "ana", "github").await,
        "the token's is used up"
    );
    assert!(one(&mut batch, "ana", "slack").await);
    assert!(!one(&mut batch, "ana", "slack").await, "the account's is");
    assert!(one(&mut app, "ana", "slack").await);
    assert!(!one(&mut app, "ana", "slack").await, "ana's is");
    for _ in 0..3 {
        assert!(one(&mut app, "bo", "pager").await);
    }
    assert!(!one(&mut app, "bo", "pager").await, "bo's is");
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn many_brokers_on_two_quotas_never_wait_for_each_other_in_a_circle() {
    let bed = Bed::new("quota_circle").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let limits = [
        quota("user", ana, 60),
        quota(
            "account",
            Subject::ServiceAccount("app".parse().unwrap()),
            80,
        ),
    ];
    let ids = limits.each_ref().map(|limit| limit.id);
    for limit in &limits {
        bed.apply_quota_of(&team, limit, &ids).await;
    }
    let mut brokers = Vec::new();
    for _ in 0..6 {
        brokers.push(Obedient::new(bed.broker(&replica, &team, "app").await).await);
    }
    let reading = brokers
        .into_iter()
        .map(|broker| broker.use_up("ana", "github"));
    let done = futures::future::join_all(reading).await;
    assert_eq!(done.iter().map(|(count, _)| count).sum::<u32>(), 60);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    assert_eq!(bed.count(DEADLOCKS).await, 0);
    replica.stop().await;
}
