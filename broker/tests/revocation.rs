//! Revocation, while requests are under way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::cell::Cell;

use bursar_wire::v1alpha1::{Supersede, denied, event};
use futures::future::join_all;

use support::{scene, until};

#[tokio::test]
async fn once_the_vault_has_the_broker_s_word_nothing_is_served_any_more() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        let scene = &*scene;
        let acknowledged = Cell::new(false);
        // Sixteen clients that never stop asking.
        let clients = join_all((0..16).map(async |_| {
            loop {
                let after = acknowledged.get();
                let answer = scene.access("ana", Some("github")).await;
                match answer.status {
                    200 => assert!(!after, "served after the broker had confirmed the recall"),
                    _ => {
                        assert_eq!(answer.code(), "TokenRevoked");
                        return;
                    }
                }
            }
        }));
        let revoke = async {
            scene
                .vault
                .until("some accesses", |state| !state.records.is_empty())
                .await;
            scene
                .vault
                .deny("ana", Some("github"), denied::Code::Revoked);
            scene.vault.recall_all();
            scene
                .vault
                .until("the broker's word", |state| {
                    state.allowances.values().all(|allowance| allowance.closed)
                })
                .await;
            acknowledged.set(true);
        };
        tokio::join!(clients, revoke);
    })
    .await;
}

#[tokio::test]
async fn a_recall_reaches_a_grant_whose_answer_is_still_on_its_way() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.hold_answers(true);
        let scene = &*scene;
        let asking = scene.access("ana", Some("github"));
        let recalling = async {
            scene
                .vault
                .until("the grant is booked", |state| !state.allowances.is_empty())
                .await;
            // A description is remembered until there is an event: so one can
            // see from here that the recall has arrived.
            scene.status("ana").await;
            scene.vault.recall_all();
            until("the recall has arrived", async || {
                scene.status("ana").await;
                scene.vault.calls("DescribeUser") == 2
            })
            .await;
            scene
                .vault
                .deny("ana", Some("github"), denied::Code::Revoked);
            scene.vault.hold_answers(false);
        };
        let (answer, ()) = tokio::join!(asking, recalling);
        assert_eq!(answer.code(), "TokenRevoked");
        scene
            .vault
            .until("it is handed back unused", |state| {
                state
                    .allowances
                    .values()
                    .all(|allowance| allowance.closed && allowance.used == 0)
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_new_version_is_fetched_when_it_is_announced_and_nobody_is_refused_meanwhile() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "old");
        assert_eq!(
            scene.access("ana", Some("github")).await.json()["token"],
            "old"
        );
        scene.vault.store("ana", "github", "new");
        let allowance_ids = scene.vault.open();
        scene
            .vault
            .push(event::Event::Supersede(Supersede { allowance_ids }));
        // No request is needed for it to be fetched.
        scene
            .vault
            .until("the new one is granted", |state| {
                state.allowances.len() == 2
            })
            .await;
        until("the new one is served", async || {
            let answer = scene.access("ana", Some("github")).await;
            assert_eq!(answer.status, 200);
            answer.json()["token"] == "new"
        })
        .await;
        let old = scene
            .vault
            .state()
            .allowances
            .keys()
            .next()
            .unwrap()
            .clone();
        scene
            .vault
            .until("the old one is closed", |state| {
                state.allowances[&old].closed
            })
            .await;
    })
    .await;
}
