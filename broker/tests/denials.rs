//! Refusals, as the vault is told of them one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bursar_wire::v1alpha1::{Denial, denied};
use futures::future::join_all;

use support::http::{Answer, request, send};
use support::{NOW_SECONDS, Scene, scene};

/// What no part of a report may hold.
const PLANTED: &str = "pLanted-Secret";

fn id(answer: &Answer) -> String {
    answer.json()["decision_id"].as_str().unwrap().to_owned()
}

async fn told(scene: &Scene, count: usize) -> Vec<Denial> {
    scene
        .vault
        .until("denials", |state| state.denials.len() >= count)
        .await;
    scene.vault.state().denials.clone()
}

/// All that the vault was told of when ana's first access is on record.
async fn told_before_an_access(scene: &Scene) -> Vec<Denial> {
    assert_eq!(scene.access("ana", None).await.status, 200);
    scene
        .vault
        .until("all that was before the access", |state| {
            state.records.len() == 1
        })
        .await;
    scene.vault.state().denials.clone()
}

async fn assert_counted(scene: &Scene, code: &str, count: u32) {
    let metrics = String::from_utf8(scene.admin("/metrics").await.body).unwrap();
    let line = format!("bursar_broker_answers_total{{code=\"{code}\"}} {count}\n");
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_id_and_what_was_asked_for_and_needs_no_access_to_go_with() {
    scene(async |scene| {
        scene
            .vault
            .deny("ana", Some("github"), denied::Code::Forbidden);
        let refused = scene.access("ana", Some("github")).await;
        assert_eq!(refused.status, 403);
        let denials = told(scene, 1).await;
        let expected = Denial {
            decision_id: id(&refused),
            code: "Forbidden".into(),
            user_id: "ana".into(),
            token: "github".into(),
            app_name: "ci".into(),
            purpose: "nightly sync".into(),
            time_ms: NOW_SECONDS * 1_000,
            quotas: vec![],
        };
        assert_eq!(denials, [expected]);
        assert!(scene.vault.state().records.is_empty());
    })
    .await;
}

#[tokio::test]
async fn so_is_one_that_the_broker_decides_and_one_of_a_call_without_claims() {
    scene(async |scene| {
        let purposes = Some(vec!["backup".to_owned()]);
        scene.vault.store("ana", "github", "s3cret");
        for stored in scene.vault.state().tokens.values_mut() {
            if let support::books::Stored::Value { purposes: only, .. } = stored {
                only.clone_from(&purposes);
            }
        }
        let served = scene.access_for("ana", None, "backup").await;
        assert_eq!(served.status, 200);
        let purpose = scene.access_for("ana", None, "nightly sync").await;
        let status = scene.status("bo").await;
        assert_eq!((purpose.status, status.status), (403, 403));
        let denials = told(scene, 2).await;
        let [first, second] = &denials[..] else {
            panic!("{denials:?}")
        };
        assert_eq!(first.decision_id, id(&purpose));
        assert_eq!((&*first.token, &*first.purpose), ("", "nightly sync"));
        assert_eq!(second.decision_id, id(&status));
        assert_eq!((&*second.user_id, &*second.purpose), ("bo", ""));
    })
    .await;
}

#[tokio::test]
async fn of_a_caller_that_is_not_verified_only_code_and_time_are_told() {
    scene(async |scene| {
        let body = format!(
            r#"{{"user_id":"{0}","token":"{0}","app_name":"{PLANTED}","purpose":"{PLANTED}"}}"#,
            PLANTED.to_lowercase()
        );
        let unverified = scene.post(PLANTED, &body).await;
        let ill_formed = scene
            .post(&scene.jwt, &format!("{{\"{PLANTED}\":1}}"))
            .await;
        let path = format!("/v1/{PLANTED}");
        let headers = [("Host", "localhost")];
        let no_call = send(scene.address, &request("GET", &path, &headers, "")).await;
        assert_eq!(
            (unverified.status, ill_formed.status, no_call.status),
            (401, 400, 404)
        );
        let denials = told(scene, 3).await;
        let answers = [unverified, ill_formed, no_call];
        let codes = ["Unauthenticated", "InvalidRequest", "NotFound"];
        for ((answer, code), denial) in answers.iter().zip(codes).zip(&denials) {
            let expected = Denial {
                decision_id: id(answer),
                code: code.into(),
                time_ms: NOW_SECONDS * 1_000,
                ..Denial::default()
            };
            assert_eq!(*denial, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_strangers_is_only_counted_past_a_bound_and_leaves_room_for_callers() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.deny("bo", None, denied::Code::Forbidden);
        let scene = &*scene;
        for _ in 0..6 {
            let flood = join_all((0..50).map(|_| scene.post(PLANTED, "{}")));
            // Syntax comes first: this body is no request.
            assert!(flood.await.iter().all(|answer| answer.status == 400));
        }
        let refused = scene.access("bo", None).await;
        let denials = told_before_an_access(scene).await;
        assert_eq!(denials.len(), 128 + 1);
        assert_eq!(denials.last().unwrap().decision_id, id(&refused));
        assert_counted(scene, "InvalidRequest", 300).await;
    })
    .await;
}

#[tokio::test]
async fn the_two_hundred_and_fifty_seventh_in_an_hour_is_only_counted() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.deny("bo", None, denied::Code::Forbidden);
        for _ in 0..257 {
            assert_eq!(scene.access("bo", None).await.status, 403);
        }
        assert_eq!(told_before_an_access(scene).await.len(), 256);
        assert_counted(scene, "Forbidden", 257).await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_neither_loses_nor_repeats_nor_changes_a_denial() {
    scene(async |scene| {
        scene.vault.deny("bo", None, denied::Code::Forbidden);
        scene.vault.lose_report_answers(1);
        let first = scene.access("bo", None).await;
        told(scene, 1).await;
        // The connection breaks now; the batch is sent again by the next session.
        let second = scene.access("bo", None).await;
        let denials = told(scene, 2).await;
        let ids: Vec<&str> = denials.iter().map(|it| &*it.decision_id).collect();
        assert_eq!(ids, [id(&first), id(&second)]);
        assert!(scene.vault.calls("Report") >= 3);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_told_when_the_broker_ends_is_told_then() {
    scene(async |scene| {
        scene.vault.deny("bo", None, denied::Code::Forbidden);
        scene.vault.state().next_report_ms = 30_000;
        scene.access("bo", None).await;
        told(scene, 1).await;
        let last = scene.access("bo", None).await;
        scene.drain().await.unwrap();
        let denials = scene.vault.state().denials.clone();
        assert_eq!(denials.last().unwrap().decision_id, id(&last));
    })
    .await;
}
