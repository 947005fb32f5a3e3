//! An orderly end leaves nothing unaccounted for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bursar_broker::SidecarError;
use futures::future::join_all;
use tokio::net::TcpStream;

use support::{scene, until};

#[tokio::test]
async fn every_access_is_on_record_and_every_allowance_closed_when_the_broker_has_ended() {
    scene(async |scene| {
        // Only the last report tells.
        scene.vault.state().next_report_ms = 30_000;
        for token in ["github", "slack", "stripe"] {
            scene.vault.store("ana", token, "s3cret");
            for _ in 0..7 {
                assert_eq!(scene.access("ana", Some(token)).await.status, 200);
            }
        }
        scene.drain().await.unwrap();
        assert_eq!(scene.vault.recorded(), 21);
        let state = scene.vault.state();
        assert_eq!(state.allowances.len(), 3);
        assert!(
            state
                .allowances
                .values()
                .all(|booked| booked.closed && booked.used == 7)
        );
    })
    .await;
}

#[tokio::test]
async fn requests_under_way_are_answered_and_new_ones_turned_away() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.hold_grants(true);
        let waiting = scene.access("ana", Some("github"));
        let mut waiting = std::pin::pin!(waiting);
        let booked = scene
            .vault
            .until("it waits", |state| state.calls.contains_key("Grant"));
        tokio::select! {
            answer = &mut waiting => panic!("{answer:?}"),
            () = booked => {}
        }
        let (address, admin) = (scene.address, scene.admin);
        let stop = async {
            until("the broker listens no more", async || {
                TcpStream::connect(address).await.is_err()
            })
            .await;
            let ready = support::http::send(
                admin,
                &support::http::request("GET", "/readyz", &[("Host", "localhost")], ""),
            )
            .await;
            assert_eq!((ready.status, &*ready.body), (503, &b"ending\n"[..]));
            scene.vault.hold_grants(false);
        };
        scene.stop();
        let (answer, ()) = tokio::join!(waiting, stop);
        assert_eq!(answer.status, 200);
        scene.ended().await.unwrap();
        assert_eq!(scene.vault.recorded(), 1);
        assert!(scene.vault.open().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_end_under_load_accounts_for_exactly_what_was_answered() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        let mut served = 1;
        let answers = {
            let address = scene.address;
            let jwt = scene.jwt.clone();
            tokio::task::spawn_local(async move {
                let clients = join_all((0..8).map(|_| support::hammer(address, &jwt)));
                clients.await.into_iter().sum::<u64>()
            })
        };
        scene
            .vault
            .until("load", |state| state.records.len() > 1)
            .await;
        scene.drain().await.unwrap();
        served += answers.await.unwrap();
        assert_eq!(scene.vault.recorded(), served);
        assert!(scene.vault.open().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_cannot_reach_the_vault_at_its_end_says_what_is_not_accounted_for() {
    scene(async |scene| {
        scene.vault.state().next_report_ms = 30_000;
        scene.vault.store("ana", "github", "s3cret");
        for _ in 0..3 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        }
        let reported = scene.vault.recorded();
        scene.vault.go_away();
        match scene.drain().await {
            Err(SidecarError::Unreported { accesses }) => assert_eq!(accesses, 3 - reported),
            other => panic!("{other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_held_nothing_ends_at_once_even_when_the_vault_is_away() {
    scene(async |scene| {
        scene.vault.go_away();
        scene.drain().await.unwrap();
    })
    .await;
}
