//! `GET /v1/tokens/status/{user_id}`, and the port for health and metrics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use bursar_wire::v1alpha1::{TokenSummary, denied, event};
use futures::future::join_all;
use serde_json::json;

use support::http::{request, send};
use support::{scene, until};

fn summary(usable: bool) -> TokenSummary {
    TokenSummary {
        token: "github".to_owned(),
        provider: "github".to_owned(),
        version: 4,
        version_time_ms: Some(1_700_000_000_000),
        expiration_time_ms: Some(1_900_000_000_000),
        usable,
        reason: if usable {
            denied::Code::Unspecified
        } else {
            denied::Code::Revoked
        }
        .into(),
    }
}

#[tokio::test]
async fn a_user_s_tokens_are_described_without_values() {
    scene(async |scene| {
        scene
            .vault
            .state()
            .descriptions
            .insert("ana".to_owned(), vec![summary(true)]);
        let answer = scene.status("ana").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(
            answer.json(),
            json!({
                "user_id": "ana",
                "has_token": true,
                "tokens": [{
                    "name": "github",
                    "provider": "github",
                    "version": 4,
                    "version_time": "2023-11-14T22:13:20Z",
                    "expiration_time": "2030-03-17T17:46:40Z",
                    "usable": true,
                    "reason": "Serving",
                }],
            })
        );
        assert_eq!(scene.vault.calls("Grant"), 0);
    })
    .await;
}

#[tokio::test]
async fn an_outsider_is_refused_as_at_access_and_a_stranger_before_that() {
    scene(async |scene| {
        let answer = scene.status("absent").await;
        let access = scene.access("absent", None).await;
        assert_eq!((answer.status, answer.body.len()), (403, access.body.len()));
        assert_eq!(answer.json()["detail"], access.json()["detail"]);
        let calls = scene.vault.calls("DescribeUser");
        let headers = [("Host", "localhost"), ("Authorization", "Bearer forged")];
        let path = "/v1/tokens/status/absent";
        let answer = send(scene.address, &request("GET", path, &headers, "")).await;
        assert_eq!(answer.code(), "Unauthenticated");
        for bad in ["", "Ana", "a%6ea", "ana/tokens", "..%2f"] {
            let answer = scene.status(bad).await;
            assert_eq!(
                (answer.code().as_str(), answer.status),
                ("InvalidRequest", 400),
                "{bad}"
            );
        }
        assert_eq!(scene.vault.calls("DescribeUser"), calls);
    })
    .await;
}

#[tokio::test]
async fn polling_reaches_the_vault_once_a_second_and_sees_changes_at_once() {
    scene(async |scene| {
        scene
            .vault
            .state()
            .descriptions
            .insert("ana".to_owned(), vec![summary(true)]);
        join_all((0..100).map(|_| scene.status("ana"))).await;
        assert_eq!(scene.vault.calls("DescribeUser"), 1);
        scene.clock.advance(Duration::from_secs(1));
        scene.status("ana").await;
        assert_eq!(scene.vault.calls("DescribeUser"), 2);
        scene
            .vault
            .state()
            .descriptions
            .insert("ana".to_owned(), vec![summary(false)]);
        scene
            .vault
            .push(event::Event::ForgetDenials(Default::default()));
        let scene = &*scene;
        until("the change is seen", async || {
            scene.status("ana").await.json()["has_token"] == false
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn without_the_vault_there_is_no_description() {
    scene(async |scene| {
        scene.vault.go_away();
        until("it is known to be away", async || {
            scene.status("ana").await.status == 503
        })
        .await;
        scene.vault.come_back();
        until("it is back", async || {
            scene.status("ana").await.status == 403
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_incarnation_that_ended_is_noticed_by_a_question_too() {
    scene(async |scene| {
        scene
            .vault
            .state()
            .descriptions
            .insert("ana".to_owned(), vec![summary(true)]);
        scene.vault.fence_silently();
        assert_eq!(scene.status("ana").await.status, 503);
        until("it has attached anew", async || {
            scene.status("ana").await.status == 200
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_other_port_serves_health_readiness_and_metrics_and_names_nobody() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene
            .access_for("ana", Some("github"), "very-special-purpose")
            .await;
        scene.access("absent", None).await;
        assert_eq!(scene.admin("/healthz").await.body, b"ok\n");
        assert_eq!(scene.admin("/readyz").await.body, b"ready\n");
        let metrics = scene.admin("/metrics").await;
        assert!(
            metrics
                .header("content-type")
                .unwrap()
                .contains("openmetrics")
        );
        let text = String::from_utf8(metrics.body).unwrap();
        for line in [
            "bursar_broker_answers_total{code=\"Served\"} 1\n",
            "bursar_broker_answers_total{code=\"Forbidden\"} 1\n",
            "bursar_broker_vault_calls_total{call=\"Grant\",outcome=\"Ok\"} 2\n",
            "bursar_broker_attached 1\n",
            "bursar_broker_allowances 1\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        for name in [
            "ana",
            "github",
            "s3cret",
            "ci\"",
            "very-special-purpose",
            "absent",
        ] {
            assert!(!text.contains(name), "{name}");
        }
        for path in ["/", "/v1/tokens/access", "/v1/tokens/status/ana"] {
            assert_eq!(scene.admin(path).await.status, 404);
        }
        let post = request("POST", "/metrics", &[("Host", "localhost")], "");
        assert_eq!(send(scene.admin, &post).await.status, 405);
    })
    .await;
}
