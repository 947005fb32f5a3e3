//! The broker with a real vault service and a real Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
mod broker;
mod quotas;
mod refusals;
#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::time::Duration;

use bursar_seal::TokenVersion;
use futures::future::join_all;
use tokio::task::LocalSet;

use bed::{Bed, Replica};
use broker::Broker;
use support::until;

const MINUTE: Duration = Duration::from_secs(60);

async fn with_vault<F: AsyncFnOnce(&Bed, Replica)>(hint: &str, lease: Duration, test: F) {
    LocalSet::new()
        .run_until(async {
            let (bed, replica) = Bed::start(hint, lease).await;
            test(&bed, replica).await;
        })
        .await;
}

#[tokio::test]
async fn a_token_travels_from_the_store_to_a_workload_and_every_access_is_on_record() {
    with_vault("travels", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        for _ in 0..20 {
            assert_eq!(
                broker.value("ana", "github").await.as_deref(),
                Some("s3cret")
            );
        }
        assert_eq!(broker.access("ana", None).await.json()["name"], "github");
        broker.drain().await;
        assert_eq!(bed.served().await, 21);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn many_misses_at_once_are_one_grant() {
    with_vault("misses", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        let answers = join_all((0..256).map(|_| broker.access("ana", Some("github"))));
        assert!(answers.await.iter().all(|answer| answer.status == 200));
        assert_eq!(bed.count("select count(*) from allowance").await, 1);
        broker.drain().await;
        assert_eq!(bed.served().await, 256);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn a_revocation_reaches_requests_under_way_and_nothing_is_served_after_it_is_closed() {
    with_vault("revoked", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let mut github = bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        let clients = join_all((0..8).map(|_| until_refused(&broker)));
        let revoke = async {
            let some = "select least(count(*), 1) from access_record where count > 1";
            bed.until_count(some, 1).await;
            github.through_version = Some(TokenVersion::FIRST);
            bed.apply_token(&github).await;
            bed.until_count("select count(*) from allowance where state = 'Open'", 0)
                .await;
            bed.served().await
        };
        let (served, at_close) = tokio::join!(clients, revoke);
        broker.drain().await;
        let served: i64 = 1 + served.iter().sum::<i64>();
        assert_eq!((at_close, bed.served().await), (served, served));
        bed.assert_all_accounted_for().await;
    })
    .await;
}

/// Asks until the token is refused; returns how often it was served.
async fn until_refused(broker: &Broker) -> i64 {
    let mut served = 0;
    loop {
        let answer = broker.access("ana", Some("github")).await;
        if answer.status != 200 {
            assert_eq!(answer.code(), "TokenRevoked");
            return served;
        }
        served += 1;
    }
}

#[tokio::test]
async fn a_new_value_is_served_soon_and_nobody_is_refused_meanwhile() {
    with_vault("renewed", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let github = bed.token(&ana, "github", "old").await;
        let broker = bed.broker().await;
        assert_eq!(broker.value("ana", "github").await.as_deref(), Some("old"));
        bed.store(&github, "new").await;
        until("the new value is served", async || {
            broker.value("ana", "github").await.unwrap() == "new"
        })
        .await;
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn while_postgres_is_away_leases_are_served_to_their_end_and_nothing_is_lost() {
    with_vault("outage", Duration::from_secs(3), async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        bed.token(&ana, "slack", "s3cret").await;
        let broker = bed.broker().await;
        let served = Cell::new(0);
        let serves = async || {
            let answer = broker.access("ana", Some("github")).await;
            assert!(answer.status == 200 || answer.code() == "VaultUnavailable");
            served.set(served.get() + i64::from(answer.status == 200));
            answer.status == 200
        };
        assert!(serves().await);
        bed.shut_out().await;
        // A request that the vault cannot decide is in nobody's way later.
        assert_eq!(
            broker.access("ana", Some("slack")).await.code(),
            "VaultUnavailable"
        );
        until("the lease is over", async || !serves().await).await;
        bed.let_in().await;
        until("it is served again", serves).await;
        let served = served.get();
        broker.drain().await;
        assert_eq!(bed.served().await, served);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn another_vault_process_takes_over_where_the_first_one_ended() {
    with_vault("takeover", MINUTE, async |bed, replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        bed.token(&ana, "slack", "s3cret").await;
        let broker = bed.broker().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        replica.stop().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        let _replica = bed.replica();
        until("the other token is granted", async || {
            broker.access("ana", Some("slack")).await.status == 200
        })
        .await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        broker.drain().await;
        assert_eq!(bed.count("select count(*) from incarnation").await, 1);
        assert_eq!(bed.served().await, 4);
        bed.assert_all_accounted_for().await;
    })
    .await;
}
