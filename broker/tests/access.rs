//! `POST /v1/tokens/access` against a vault that answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use bursar_wire::v1alpha1::{denied, event};
use futures::future::join_all;
use serde_json::{Value, json};

use support::books::Stored;
use support::http::Answer;
use support::{NOW_SECONDS, scene, until};

#[tokio::test]
async fn a_workload_gets_its_token_and_every_access_is_recorded() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret \"quoted\" é");
        let answer = scene.access("ana", Some("github")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({
                "token": "s3cret \"quoted\" é",
                "expires_in": 59,
                "user_id": "ana",
                "name": "github",
                "provider": "github",
                "version": 1,
                "version_time": "2023-11-14T22:13:20Z",
            })
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for _ in 0..9 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 200);
        }
        scene
            .vault
            .until("10 accesses on record", |state| {
                state.records.iter().map(|record| record.count).sum::<u32>() == 10
            })
            .await;
        let state = scene.vault.state();
        let record = &state.records[0];
        assert_eq!(
            (&*record.app_name, &*record.purpose),
            ("ci", "nightly sync")
        );
        assert_eq!(record.first_time_ms, NOW_SECONDS * 1_000);
        drop(state);
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn the_only_token_need_not_be_named() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        let answer = scene.access("ana", None).await.json();
        assert_eq!(
            (&answer["token"], &answer["name"]),
            (&"s3cret".into(), &"github".into())
        );
    })
    .await;
}

#[tokio::test]
async fn two_hundred_and_fifty_six_misses_at_once_are_one_call_to_the_vault() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.hold_grants(true);
        let scene = &*scene;
        let requests = join_all((0..256).map(|_| scene.access("ana", Some("github"))));
        let release = async {
            scene
                .vault
                .until("the call", |state| state.calls.contains_key("Grant"))
                .await;
            // Time for all 256 to come in: they cannot be counted from here.
            tokio::time::sleep(Duration::from_millis(300)).await;
            scene.vault.hold_grants(false);
        };
        let (answers, ()) = tokio::join!(requests, release);
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn each_denial_has_its_status_and_code() {
    use denied::Code;
    let cases = [
        (Code::Forbidden, 403, "Forbidden"),
        (Code::TokenNotFound, 404, "TokenNotFound"),
        (Code::NoVersion, 404, "TokenHasNoValue"),
        (Code::TokenAmbiguous, 409, "TokenAmbiguous"),
        (Code::Revoked, 410, "TokenRevoked"),
        (Code::Expired, 410, "TokenExpired"),
        (Code::Unspecified, 403, "Forbidden"),
    ];
    scene(async |scene| {
        for (n, (code, status, name)) in cases.into_iter().enumerate() {
            let token = format!("token-{n}");
            scene.vault.deny("ana", Some(&token), code);
            let answer = scene.access("ana", Some(&token)).await;
            assert_eq!((answer.status, &*answer.code()), (status, name));
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    })
    .await;
}

#[tokio::test]
async fn an_ambiguous_request_is_told_the_names() {
    scene(async |scene| {
        let names = vec!["github".to_owned(), "slack".to_owned()];
        let stored = Stored::Denied(denied::Code::TokenAmbiguous, names);
        scene
            .vault
            .state()
            .tokens
            .insert(("ana".to_owned(), None), stored);
        let answer = scene.access("ana", None).await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.json()["tokens"], json!(["github", "slack"]));
    })
    .await;
}

/// The answer's bytes with the id blanked; it must have one length.
fn without_id(answer: &Answer) -> String {
    let document: Value = answer.json();
    let id = document["decision_id"].as_str().unwrap();
    assert_eq!(id.len(), 32);
    let body = String::from_utf8(answer.body.clone())
        .unwrap()
        .replace(id, "");
    let head: Vec<&str> = answer
        .head
        .lines()
        .filter(|line| !line.to_lowercase().starts_with("date:"))
        .collect();
    format!("{}\n{body}", head.join("\n"))
}

#[tokio::test]
async fn an_outsider_cannot_tell_absent_not_yours_suspended_and_wrong_purpose_apart() {
    scene(async |scene| {
        // What the vault answers alike: absent, not listed, suspended.
        scene
            .vault
            .deny("suspended", Some("github"), denied::Code::Forbidden);
        let restricted = Stored::Value {
            value: "s3cret".to_owned(),
            version: 1,
            purposes: Some(vec!["backup".to_owned()]),
        };
        scene
            .vault
            .state()
            .tokens
            .insert(("ana".into(), Some("github".into())), restricted);
        assert_eq!(
            scene
                .access_for("ana", Some("github"), "backup")
                .await
                .status,
            200
        );

        let refusals = [
            scene.access("absent", Some("github")).await,
            scene.access("suspended", Some("github")).await,
            scene.access("absent", None).await,
            // Once asked of the vault, once remembered.
            scene.access("absent", Some("github")).await,
            // Decided here, from what the allowance says.
            scene.access("ana", Some("github")).await,
        ];
        let texts: HashSet<String> = refusals.iter().map(without_id).collect();
        assert_eq!(texts.len(), 1, "{texts:#?}");
        assert!(refusals.iter().all(|answer| answer.status == 403));
        let ids: HashSet<String> = refusals
            .iter()
            .map(|answer| answer.json()["decision_id"].to_string())
            .collect();
        assert_eq!(ids.len(), refusals.len());
    })
    .await;
}

#[tokio::test]
async fn syntax_comes_before_the_jwt_and_the_jwt_before_entitlement() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        let good = json!({"user_id": "ana", "app_name": "ci", "purpose": "sync"}).to_string();
        let bad = json!({"user_id": "ana", "app_name": "ci", "purpose": "", "x": 1}).to_string();
        let absent = json!({"user_id": "absent", "app_name": "ci", "purpose": "sync"}).to_string();
        let codes = [
            (scene.post("forged", &bad).await, "InvalidRequest"),
            (scene.post("forged", &absent).await, "Unauthenticated"),
            (scene.post("forged", &good).await, "Unauthenticated"),
            (scene.post(&scene.jwt, &absent).await, "Forbidden"),
        ];
        for (answer, code) in codes {
            assert_eq!(answer.code(), code);
        }
        // The vault heard of the one caller alone whose JWT was good.
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn the_clock_that_people_set_does_not_move_a_lease() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", None).await.json()["expires_in"], 59);
        for step in [-1_800_000, 3_000_000] {
            scene.clock.step_wall(step);
            assert_eq!(scene.access("ana", None).await.json()["expires_in"], 59);
        }
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_denial_reaches_the_vault_once_a_second_and_ends_with_a_change() {
    scene(async |scene| {
        for _ in 0..20 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 403);
        }
        assert_eq!(scene.vault.calls("Grant"), 1);
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", Some("github")).await.status, 403);
        scene
            .vault
            .push(event::Event::ForgetDenials(Default::default()));
        let scene = &*scene;
        until("the new entitlement counts", async || {
            scene.access("ana", Some("github")).await.status == 200
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_busy_allowance_is_renewed_without_anybody_waiting() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        for n in 0..600 {
            assert_eq!(scene.access("ana", Some("github")).await.status, 200, "{n}");
        }
        let state = scene.vault.state();
        let granted: Vec<u32> = state
            .allowances
            .values()
            .map(|allowance| allowance.granted)
            .collect();
        // The first is for whoever comes; the next ones are by the rate seen.
        assert_eq!(granted[0], 512);
        assert!(
            granted[1..].iter().all(|units| *units == 5_000),
            "{granted:?}"
        );
        assert!((2..=3).contains(&granted.len()), "{granted:?}");
    })
    .await;
}

#[tokio::test]
async fn the_first_use_of_a_key_is_reported_soon_however_seldom_reports_are() {
    scene(async |scene| {
        scene.vault.state().next_report_ms = 30_000;
        for (token, recorded) in [("github", 1), ("slack", 2)] {
            scene.vault.store("ana", token, "s3cret");
            assert_eq!(scene.access("ana", Some(token)).await.status, 200);
            // From the first report on the next one is 30 seconds away.
            let reported = scene
                .vault
                .until("a report", |state| state.records.len() == recorded);
            let soon = tokio::time::timeout(Duration::from_secs(15), reported).await;
            assert!(soon.is_ok(), "{token} was not reported");
        }
    })
    .await;
}
