//! Floods: what one broker, or anybody who can connect, may take from others.

use std::time::Duration;

use bursar_testbed::until;
use bursar_vault::service::Settings;
use bursar_wire::v1alpha1::Incarnation;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::broker::Broker;
use crate::support::cluster::Pod;
use crate::support::{Bed, DEADLINE};

/// Connections of one pod to one replica.
const CONNECTIONS: usize = 8;

#[tokio::test]
async fn a_flood_of_attaches_asks_the_api_server_no_more_than_allowed() {
    let bed = Bed::new("attach_flood").await;
    let settings = Settings {
        reviews_per_second: 2,
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let team = bed.team("team").await;
    let start = tokio::time::Instant::now();

    let mut attaching = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let token = bed.cluster.token(&Pod::new(&team, "app"));
        let mut broker = Broker::connect(&replica, &bed.authority).await;
        attaching.spawn(async move { broker.attach(&token).await.err().map(|error| error.code()) });
    }
    let ended = tokio::time::timeout(DEADLINE, attaching.join_all())
        .await
        .unwrap();
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let attached = ended.iter().filter(|end| end.is_none()).count();
    assert!(attached >= 10, "{attached}");
    assert_eq!(attached, bed.cluster.reviews());
    assert!(attached <= 2 * (seconds + 1), "{attached} in {seconds} s");
    let sent_away = ended
        .iter()
        .filter(|end| **end == Some(Code::ResourceExhausted))
        .count();
    assert_eq!(attached + sent_away, 50);
    replica.stop().await;
}

#[tokio::test]
async fn forged_tokens_never_reach_the_api_server() {
    let bed = Bed::new("attach_forged_flood").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut token = bed.cluster.token(&Pod::new(&team, "app"));
    token.pop();
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    for _ in 0..100 {
        let refused = broker.attach(&token).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(bed.cluster.reviews(), 0);
    assert_eq!(
        replica.metric("bursar_vault_attaches_total{outcome=\"Refused\"}"),
        100
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_pod_has_eight_connections_to_a_replica_and_no_more() {
    let bed = Bed::new("floods_connections").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let first = bed.broker(&replica, &team, "app").await;
    let mut connected = vec![first.clone()];
    while connected.len() < CONNECTIONS {
        connected.push(first.moved(&replica, &bed.authority).await);
    }
    let mut ninth = first.unattached(&replica, &bed.authority).await;
    let refused = ninth.attach_again().await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("8 connections"), "{refused}");
    let unread = ninth.describe("ana").await.err().unwrap();
    assert!(unread.message().contains("before an attach"), "{unread}");

    // The others may attach again, and another pod is not kept out.
    for broker in &mut connected {
        assert!(broker.attach_again().await.unwrap().resumed);
        broker.describe("ana").await.unwrap();
    }
    bed.broker(&replica, &team, "app").await;
    // Once one of them has gone there is room.
    connected.pop();
    let attached = until(DEADLINE, Duration::from_millis(10), async || {
        ninth.clone().attach_again().await.ok()
    });
    assert!(attached.await.unwrap().resumed);
    ninth.describe("ana").await.unwrap();
    replica.stop().await;
}

#[tokio::test]
async fn connections_do_not_outlive_the_run_of_the_broker_that_made_them() {
    let bed = Bed::new("floods_runs").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let token = bed.cluster.token(&Pod::new(&team, "app"));
    let mut old = Broker::connect(&replica, &bed.authority).await;
    old.attach(&token).await.unwrap();
    let mut connected = vec![old.clone()];
    while connected.len() < CONNECTIONS {
        connected.push(old.moved(&replica, &bed.authority).await);
    }

    // As often as it likes, and it is never kept out by what it left behind.
    for _ in 0..3 {
        let mut new = Broker::connect(&replica, &bed.authority).await;
        assert!(!new.attach(&token).await.unwrap().resumed);
        new.describe("ana").await.unwrap();
        for broker in std::mem::replace(&mut connected, vec![new]) {
            // On an open connection it would be told that it is not authenticated;
            // on the one that its client makes instead nobody has attached.
            let closed = until(DEADLINE, Duration::from_millis(10), async || {
                let refused = broker.describe("ana").await.err().unwrap();
                refused.message().contains("before an attach").then_some(())
            });
            closed.await.expect("the old run's connection is open");
        }
    }
    replica.stop().await;
}

#[tokio::test]
async fn who_cannot_prove_an_incarnation_does_not_wait_for_its_row() {
    let bed = Bed::new("floods_lock").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let victim = bed.broker(&replica, &team, "app").await;
    let stolen = victim.incarnation.clone().unwrap();
    let forged = Incarnation {
        proof: vec![7; 32],
        ..stolen.clone()
    };
    let transaction = bed.lock("incarnation").await;
    // Even the right proof says nothing about another pod. To wait for the row
    // would end in UNAVAILABLE.
    for previous in [forged, stolen] {
        let mut thief = Broker::connect(&replica, &bed.authority).await;
        thief.incarnation = Some(previous);
        let token = bed.cluster.token(&Pod::new(&team, "app"));
        assert!(!thief.attach(&token).await.unwrap().resumed);
    }
    let mut victim = victim.unattached(&replica, &bed.authority).await;
    let waited = victim.attach_again().await.err().unwrap();
    assert_eq!(waited.code(), Code::Unavailable, "the row was not locked");
    transaction.rollback().await.unwrap();
    replica.stop().await;
}

#[tokio::test]
async fn a_broker_with_four_calls_under_way_is_not_even_read() {
    let bed = Bed::new("floods_unread").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let busy = bed.broker(&replica, &team, "app").await;
    let elsewhere = busy.moved(&replica, &bed.authority).await;
    let other = bed.broker(&replica, &team, "app").await;

    // Four calls wait for the row of their run.
    let transaction = bed.lock("incarnation").await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let busy = busy.clone();
        calls.spawn(async move { busy.grant_numbered(1, "ana", Some("github"), 1).await });
    }
    bed.until_waiting(4).await;

    // A message that is too large for anybody is answered once it is read.
    let too_large = || vec!["x".repeat(8 * 1024 * 1024)];
    let unread = elsewhere.report_numbered(1, Vec::new(), too_large());
    let mut unread = std::pin::pin!(unread);
    let while_busy = tokio::time::timeout(Duration::from_millis(500), &mut unread);
    assert!(while_busy.await.is_err(), "a fifth call was read");
    let read = other.report_numbered(1, Vec::new(), too_large()).await;
    assert_eq!(read.err().unwrap().code(), Code::OutOfRange);

    transaction.rollback().await.unwrap();
    for answered in calls.join_all().await {
        answered.unwrap();
    }
    assert_eq!(unread.await.err().unwrap().code(), Code::OutOfRange);
    replica.stop().await;
}
