//! The vault goes away, comes back, loses answers and forgets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use bursar_wire::v1alpha1::{Recall, denied, event};

use futures::future::join_all;

use support::books::{State, Stored};
use support::{scene, until};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_is_held_is_served_until_the_lease_is_over_and_then_503() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.go_away();
        scene.clock.advance(MINUTE - Duration::from_secs(1));
        for _ in 0..10 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        }
        scene.clock.advance(Duration::from_secs(1));
        let answer = scene.access("ana", Some("github")).await;
        assert_eq!((answer.status, &*answer.code()), (503, "VaultUnavailable"));
        assert_eq!(answer.header("retry-after"), Some("2"));
        // It has not become unready, and a health check need not restart it.
        assert_eq!(scene.admin("/readyz").await.status, 200);
        assert_eq!(scene.admin("/healthz").await.status, 200);

        scene.vault.come_back();
        until("it serves again", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
        scene
            .vault
            .until("12 accesses are on record", |state| {
                let recorded: u32 = state.records.iter().map(|record| record.count).sum();
                recorded == 12
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_not_granted_twice() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.lose_grant_answers(2);
        until("it is served", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
        assert_eq!(scene.vault.calls("Grant"), 3);
        assert_eq!(scene.vault.state().allowances.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_report_whose_answer_is_lost_is_repeated_and_not_recorded_twice() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.lose_report_answers(3);
        for _ in 0..5 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        }
        scene
            .vault
            .until("four reports", |state| {
                state.calls.get("Report") >= Some(&4)
            })
            .await;
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.drain().await.unwrap();
        assert_eq!(scene.vault.recorded(), 6);
    })
    .await;
}

#[tokio::test]
async fn a_broken_connection_resumes_the_same_incarnation() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.go_away();
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.come_back();
        scene
            .vault
            .until("attached again", |state| {
                state.calls.get("Watch") >= Some(&2)
            })
            .await;
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        assert_eq!(scene.vault.calls("Grant"), 1);
        scene.drain().await.unwrap();
        assert_eq!(scene.vault.recorded(), 3);
        assert!(scene.vault.open().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_died_while_the_broker_was_away_is_gone_before_it_is_in_sync() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        let allowance_ids = scene.vault.open();
        scene.vault.go_away();
        scene
            .vault
            .deny("ana", Some("github"), denied::Code::Revoked);
        scene
            .vault
            .push_on_sync(event::Event::Recall(Recall { allowance_ids }));
        scene.vault.come_back();
        scene
            .vault
            .until("the allowance is closed", |state| {
                state.allowances.values().all(|allowance| allowance.closed)
            })
            .await;
        assert_eq!(
            scene.access("ana", Some("github")).await.code(),
            "TokenRevoked"
        );
    })
    .await;
}

#[tokio::test]
async fn a_fenced_incarnation_drops_all_it_holds_and_starts_anew() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "one");
        assert_eq!(
            scene.access("ana", Some("github")).await.json()["token"],
            "one"
        );
        scene.vault.store("ana", "github", "two");
        scene.vault.fence();
        scene
            .vault
            .until("a new incarnation", |state| {
                state.calls.get("Watch") >= Some(&2)
            })
            .await;
        scene.until_ready().await;
        // The old allowance is not served from, nor is it reported or closed.
        assert_eq!(
            scene.access("ana", Some("github")).await.json()["token"],
            "two"
        );
        scene.drain().await.unwrap();
        let state = scene.vault.state();
        let books: Vec<_> = state
            .allowances
            .values()
            .map(|booked| (booked.used, booked.closed))
            .collect();
        assert!(!books[0].1 && books[1] == (1, true), "{books:?}");
    })
    .await;
}

#[tokio::test]
async fn a_vault_that_fails_for_a_moment_keeps_its_watchers() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.fail_grants(2);
        let answer = scene.access("ana", Some("github")).await;
        assert_eq!(answer.code(), "VaultUnavailable");
        until("it is served", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
        assert_eq!(
            (scene.vault.calls("Attach"), scene.vault.calls("Watch")),
            (1, 1)
        );
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_turned_away_tries_again() {
    scene(async |scene| {
        scene.vault.go_away();
        scene.vault.refuse_attaches(3);
        scene.vault.come_back();
        scene
            .vault
            .until("attached", |state| state.calls.get("Watch") >= Some(&2))
            .await;
        assert_eq!(scene.vault.calls("Attach"), 1 + 3 + 1);
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_long_for_a_vault_that_is_away() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.go_away();
        until("it is known to be away", async || {
            scene.access("ana", Some("github")).await.status == 503
        })
        .await;
        // From here on each is answered at once: a thousand take no time.
        for _ in 0..1_000 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 503);
        }
        scene.vault.come_back();
        until("it is served", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_vault_that_never_answers_a_request_costs_the_caller_a_few_seconds() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.hold_grants(true);
        let answer = scene.access("ana", Some("github")).await;
        assert_eq!(answer.code(), "VaultUnavailable");
        scene.vault.hold_grants(false);
        until("it is served", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_broker_attaches_again_before_it_is_asked_to_without_a_break() {
    scene(async |scene| {
        scene.vault.state().attach_again_ms = 50;
        scene.vault.go_away();
        scene.vault.come_back();
        scene
            .vault
            .until("attached again and again", |state| {
                state.calls.get("Attach") >= Some(&5)
            })
            .await;
        assert_eq!(scene.vault.calls("Watch"), 2);
    })
    .await;
}

#[tokio::test]
async fn a_broker_in_a_queue_for_the_api_server_waits_for_its_turn() {
    scene(async |scene| {
        scene.vault.go_away();
        scene.vault.hold_attaches(true);
        scene.vault.come_back();
        let waiting = |state: &State| state.calls["Attach"] == 2;
        scene.vault.until("an attach waits", waiting).await;
        // Longer than any other call would be waited for.
        tokio::time::sleep(Duration::from_secs(7)).await;
        scene.vault.hold_attaches(false);
        let attached = |state: &State| state.calls["Watch"] == 2;
        scene.vault.until("it is attached", attached).await;
        assert_eq!(scene.vault.calls("Attach"), 2);
    })
    .await;
}

#[tokio::test]
async fn a_pod_whose_token_is_refused_for_a_while_is_served_and_loses_nothing() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.state().attach_again_ms = 50;
        scene.vault.go_away();
        scene.vault.come_back();
        let attaches = async |more: u32| {
            let wanted = scene.vault.calls("Attach") + more;
            let reached = |state: &State| state.calls["Attach"] >= wanted;
            scene.vault.until("more attaches", reached).await;
        };
        attaches(2).await;

        // On the connection that stands, and then on new ones.
        scene.vault.refuse_tokens(true);
        attaches(3).await;
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.go_away();
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        scene.vault.come_back();
        attaches(3).await;
        assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        assert_eq!(scene.admin("/readyz").await.status, 200);

        scene.vault.refuse_tokens(false);
        scene
            .vault
            .until("all four are on record", |state| {
                let counts = state.records.iter().map(|record| record.count);
                counts.sum::<u32>() == 4
            })
            .await;
        assert_eq!(scene.vault.state().incarnation, 1);
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_the_vault_cannot_read_is_not_the_others_trouble() {
    scene(async |scene| {
        let key = ("ana".to_owned(), Some("broken".to_owned()));
        scene.vault.state().tokens.insert(key, Stored::Unreadable);
        scene.vault.store("ana", "github", "s3cret");
        for token in ["broken", "github", "broken", "github"] {
            let answer = scene.access("ana", Some(token)).await;
            let expected = if token == "broken" { 503 } else { 200 };
            assert_eq!(answer.status, expected, "{token}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_callers_no_longer_wait_for_is_not_asked_for() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.hold_grants(true);
        let tokens: Vec<String> = (0..20).map(|n| format!("token-{n}")).collect();
        {
            let requests = join_all(tokens.iter().map(|token| scene.access("ana", Some(token))));
            let asked = scene
                .vault
                .until("a grant", |state| state.calls.contains_key("Grant"));
            let in_doubt = async {
                asked.await;
                // Time for all to come in: they cannot be counted from here.
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            tokio::select! {
                _ = requests => unreachable!("no grant is answered"),
                () = in_doubt => {}
            }
            // All hang up here.
        }
        let scene = &*scene;
        let asking = scene.access("ana", Some("github"));
        let releasing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            scene.vault.hold_grants(false);
        };
        let (answer, ()) = tokio::join!(asking, releasing);
        assert_eq!(answer.status, 200);
        assert_eq!(scene.vault.calls("Grant"), 2);
    })
    .await;
}
