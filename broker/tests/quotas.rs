//! `/v1/quotas/{user_id}`, and what applications count themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bursar_wire::v1alpha1::QuotaUse;
use futures::future::join_all;
use serde_json::json;

use support::http::{Answer, request, send};
use support::{Scene, scene};

/// Five files, on a day that ends in 2027 or for all time.
fn uploads(period_s: Option<u64>) -> QuotaUse {
    QuotaUse {
        name: "uploads".to_owned(),
        counter: "filesUploaded".to_owned(),
        subject: "each user".to_owned(),
        enforced: true,
        limit: 5,
        used: 0,
        period_s,
        window_end_time_ms: period_s.map(|_| 1_800_057_600_000),
        released: 0,
    }
}

fn limit(scene: &Scene, quota: QuotaUse) {
    let mut state = scene.vault.state();
    state.quotas.insert(quota.counter.clone(), quota);
}

/// Calls with these headers beside those that are always needed.
async fn call(
    scene: &Scene,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &str,
) -> Answer {
    let bearer = format!("Bearer {}", scene.jwt);
    let mut headers = vec![("Host", "localhost:9440"), ("Authorization", &*bearer)];
    headers.extend(more);
    send(scene.address, &request(method, path, &headers, body)).await
}

/// Takes or gives back ana's units.
async fn count(scene: &Scene, what: &str, key: &str, amount: u64) -> Answer {
    let path = format!("/v1/quotas/ana/filesUploaded/{what}");
    let headers = [
        ("Idempotency-Key", key),
        ("Content-Type", "application/json"),
    ];
    let body = json!({ "amount": amount }).to_string();
    call(scene, "POST", &path, &headers, &body).await
}

#[tokio::test]
async fn units_are_taken_until_the_limit_and_given_back() {
    scene(async |scene| {
        limit(scene, uploads(Some(86_400)));
        let answer = count(scene, "consume", "a", 4).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let quota = json!({
            "name": "uploads",
            "counter": "filesUploaded",
            "subject": "each user",
            "enforcement": "Enforce",
            "limit": 5,
            "used": 4,
            "remaining": 1,
            "window": {"type": "Period", "period_seconds": 86_400},
            "resets_time": "2027-01-16T00:00:00Z",
        });
        let counted = json!({"counter": "filesUploaded", "amount": 4, "quotas": [quota]});
        assert_eq!(answer.json(), counted);
        let described = call(scene, "GET", "/v1/quotas/ana", &[], "").await;
        assert_eq!(described.status, 200);
        assert_eq!(
            described.json(),
            json!({"user_id": "ana", "quotas": [quota]})
        );

        let refused = count(scene, "consume", "b", 2).await;
        assert_eq!((refused.status, &*refused.code()), (429, "QuotaExhausted"));
        assert_eq!(refused.header("retry-after"), Some("91"));
        assert!(
            refused.detail().contains("TokenQuota uploads"),
            "{}",
            refused.detail()
        );
        let released = count(scene, "release", "c", 3).await;
        assert_eq!(released.status, 200);
        let quota = &released.json()["quotas"][0];
        assert_eq!((&quota["released"], &quota["used"]), (&json!(3), &json!(1)));
        assert_eq!(count(scene, "consume", "b", 2).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_lifetime_has_no_end_and_its_refusal_no_retry_after() {
    scene(async |scene| {
        limit(scene, uploads(None));
        let answer = count(scene, "consume", "a", 5).await;
        let quota = &answer.json()["quotas"][0];
        assert_eq!(quota["window"], json!({"type": "Lifetime"}));
        assert_eq!(quota.get("resets_time"), None);
        let refused = count(scene, "consume", "b", 1).await;
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("retry-after"), None);
    })
    .await;
}

#[tokio::test]
async fn one_unit_is_taken_where_no_amount_is_told_and_a_key_is_the_same_in_quotes() {
    scene(async |scene| {
        limit(scene, uploads(None));
        let path = "/v1/quotas/ana/filesUploaded/consume";
        for key in ["k", "\"k\""] {
            let answer = call(scene, "POST", path, &[("Idempotency-Key", key)], "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["amount"], 1);
        }
        assert_eq!(scene.vault.state().quotas["filesUploaded"].used, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_used_for_something_else_and_an_unknown_counter_are_told_apart() {
    scene(async |scene| {
        limit(scene, uploads(None));
        count(scene, "consume", "a", 1).await;
        let reused = count(scene, "consume", "a", 2).await;
        assert_eq!(
            (reused.status, &*reused.code()),
            (422, "IdempotencyKeyReused")
        );
        let path = "/v1/quotas/ana/mailsSent/consume";
        let unknown = call(scene, "POST", path, &[("Idempotency-Key", "b")], "").await;
        assert_eq!((unknown.status, &*unknown.code()), (404, "CounterNotFound"));
    })
    .await;
}

#[tokio::test]
async fn bad_requests_are_told_where_before_anybody_is_asked_who_they_are() {
    scene(async |scene| {
        limit(scene, uploads(None));
        let good = "/v1/quotas/ana/filesUploaded/consume";
        let key = ("Idempotency-Key", "k");
        let json = ("Content-Type", "application/json");
        let long = "k".repeat(65);
        for (field, path, headers, body) in [
            (
                "user_id",
                "/v1/quotas/Ana/filesUploaded/consume",
                &[key][..],
                "",
            ),
            ("counter", "/v1/quotas/ana/Files/consume", &[key], ""),
            ("counter", "/v1/quotas/ana/accesses/consume", &[key], ""),
            ("counter", "/v1/quotas/ana//release", &[key], ""),
            (
                "query",
                "/v1/quotas/ana/filesUploaded/consume?amount=1",
                &[key],
                "",
            ),
            ("Idempotency-Key", good, &[], ""),
            ("Idempotency-Key", good, &[key, key], ""),
            ("Idempotency-Key", good, &[("Idempotency-Key", "")], ""),
            ("Idempotency-Key", good, &[("Idempotency-Key", "a b")], ""),
            ("Idempotency-Key", good, &[("Idempotency-Key", &long)], ""),
            ("amount", good, &[key, json], r#"{"amount":0}"#),
            ("amount", good, &[key, json], r#"{"amount":1000000001}"#),
            ("body", good, &[key, json], r#"{"units":1}"#),
        ] {
            // Without a JWT, too.
            let mut bare = vec![("Host", "localhost")];
            bare.extend(headers);
            let bare = send(scene.address, &request("POST", path, &bare, body)).await;
            for answer in [call(scene, "POST", path, headers, body).await, bare] {
                assert_eq!((answer.status, &*answer.code()), (400, "InvalidRequest"));
                assert_eq!(answer.json()["field"], field, "{path} {headers:?} {body}");
            }
        }
        for (method, path, status) in [
            ("GET", good, 405),
            ("POST", "/v1/quotas/ana", 405),
            ("POST", "/v1/quotas/ana/filesUploaded", 404),
            ("POST", "/v1/quotas/ana/filesUploaded/steal", 404),
            ("POST", "/v1/quotas/ana/filesUploaded/consume/more", 404),
        ] {
            let answer = call(scene, method, path, &[key], "").await;
            assert_eq!(answer.status, status, "{method} {path}");
        }
        let text = [key, ("Content-Type", "text/plain")];
        let answer = call(scene, "POST", good, &text, r#"{"amount":1}"#).await;
        assert_eq!(answer.status, 415);
        let host = [("Host", "localhost"), key];
        let answer = send(scene.address, &request("POST", good, &host, "")).await;
        assert_eq!(answer.code(), "Unauthenticated");
        let forwarded = [key, ("X-Forwarded-For", "1.1.1.1")];
        assert_eq!(
            call(scene, "POST", good, &forwarded, "").await.code(),
            "NotLocal"
        );
        assert_eq!(
            scene.vault.calls("Consume") + scene.vault.calls("Release"),
            0
        );
    })
    .await;
}

#[tokio::test]
async fn an_outsider_is_refused_as_at_access_whatever_is_asked() {
    scene(async |scene| {
        limit(scene, uploads(None));
        let access = scene.access("absent", None).await;
        let headers = [("Idempotency-Key", "k")];
        for (method, path) in [
            ("GET", "/v1/quotas/absent"),
            ("POST", "/v1/quotas/absent/filesUploaded/consume"),
            ("POST", "/v1/quotas/absent/nothing/release"),
        ] {
            let answer = call(scene, method, path, &headers, "").await;
            assert_eq!((answer.status, answer.body.len()), (403, access.body.len()));
            assert_eq!(answer.json()["detail"], access.json()["detail"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_told_with_whom_it_was_about_once_the_caller_is_known() {
    scene(async |scene| {
        limit(scene, uploads(None));
        let headers = [("Idempotency-Key", "k")];
        let exhausted = count(scene, "consume", "a", 6).await;
        let path = "/v1/quotas/ana/nothing/release";
        let unknown = call(scene, "POST", path, &headers, "").await;
        let described = call(scene, "GET", "/v1/quotas/absent", &[], "").await;
        let path = "/v1/quotas/ana/filesUploaded/consume";
        let host = [("Host", "localhost"), headers[0]];
        let stranger = send(scene.address, &request("POST", path, &host, "")).await;
        scene
            .vault
            .until("denials", |state| state.denials.len() >= 4)
            .await;
        let denials = scene.vault.state().denials.clone();
        for (answer, code, user, quotas) in [
            (exhausted, "QuotaExhausted", "ana", &["uploads"][..]),
            (unknown, "CounterNotFound", "ana", &[]),
            (described, "Forbidden", "absent", &[]),
            (stranger, "Unauthenticated", "", &[]),
        ] {
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            let told = denials.iter().find(|denial| denial.decision_id == id);
            let told = told.expect("a refusal was not told");
            assert_eq!((&*told.code, &*told.user_id), (code, user));
            assert_eq!(told.quotas, quotas);
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_counted_once() {
    scene(async |scene| {
        limit(scene, uploads(None));
        scene.vault.state().faults.lost_counts = 1;
        let answer = count(scene, "consume", "a", 2).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["quotas"][0]["used"], 2);
        assert_eq!(scene.vault.calls("Consume"), 2);
        assert_eq!(scene.vault.state().quotas["filesUploaded"].used, 2);
    })
    .await;
}

#[tokio::test]
async fn many_at_once_are_all_answered_and_tokens_too() {
    scene(async |scene| {
        limit(
            scene,
            QuotaUse {
                limit: 150,
                ..uploads(None)
            },
        );
        let scene = &*scene;
        let counts = (0..200).map(|number| async move {
            count(scene, "consume", &number.to_string(), 1).await.status
        });
        let counts = join_all(counts).await;
        assert_eq!(counts.iter().filter(|status| **status == 200).count(), 150);
        assert_eq!(counts.iter().filter(|status| **status == 429).count(), 50);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_counted_while_the_vault_is_away_and_the_caller_is_told_to_repeat() {
    scene(async |scene| {
        limit(scene, uploads(None));
        scene.vault.go_away();
        support::until("the broker has noticed", async || {
            let metrics = scene.admin("/metrics").await;
            String::from_utf8(metrics.body)
                .unwrap()
                .contains("bursar_broker_attached 0")
        })
        .await;
        let answer = count(scene, "consume", "a", 1).await;
        assert_eq!((answer.status, &*answer.code()), (503, "VaultUnavailable"));
        assert_eq!(answer.header("retry-after"), Some("2"));
        assert!(answer.detail().contains("same Idempotency-Key"));
        assert_eq!(
            call(scene, "GET", "/v1/quotas/ana", &[], "").await.status,
            503
        );
    })
    .await;
}
