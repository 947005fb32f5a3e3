//! Whose calls the broker takes: those with a JWT of its pod that is good now.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use bursar_wire::v1alpha1::event::Event;
use bursar_wire::v1alpha1::{WorkloadIssuer, denied};
use serde_json::json;

use support::books::State;
use support::issuer::{ISSUER, Issuer, good_claims};
use support::vault::FakeVault;
use support::{NOW_SECONDS, scene, until};

/// The vault tells of the keys to trust from now on.
fn trust(jwks: String) -> Event {
    let issuer = ISSUER.to_owned();
    Event::WorkloadIssuer(WorkloadIssuer { issuer, jwks })
}

#[tokio::test]
async fn a_caller_without_a_good_jwt_is_challenged() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        let body = json!({"user_id": "ana", "app_name": "ci", "purpose": "sync"}).to_string();
        let mut other_pod = good_claims(NOW_SECONDS);
        other_pod["kubernetes.io"]["pod"]["uid"] = "another".into();
        let other_pod = scene.issuer.token(&other_pod);
        for jwt in ["forged", &other_pod] {
            let answer = scene.post(jwt, &body).await;
            assert_eq!(answer.status, 401);
            assert_eq!(
                answer.header("www-authenticate"),
                Some(r#"Bearer realm="bursar", error="invalid_token""#)
            );
        }
        assert_eq!(scene.vault.calls("Grant"), 0);
    })
    .await;
}

#[tokio::test]
async fn a_jwt_that_was_good_ends_with_its_expiry() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", None).await.status, 200);
        // Somebody sets the clock past the token's end: leases do not care.
        scene.clock.step_wall(3_606_000);
        assert_eq!(scene.access("ana", None).await.code(), "Unauthenticated");
        scene.clock.step_wall(-3_606_000);
        assert_eq!(scene.access("ana", None).await.status, 200);
        assert_eq!(scene.vault.calls("Grant"), 1);
    })
    .await;
}

#[tokio::test]
async fn keys_of_the_issuer_can_change_while_the_broker_runs() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        assert_eq!(scene.access("ana", None).await.status, 200);
        let renewed = Issuer::new();
        scene.vault.push(trust(renewed.jwks()));
        let old = &*scene;
        until("the old key is not trusted", async || {
            old.access("ana", None).await.status == 401
        })
        .await;
        scene.jwt = renewed.token(&good_claims(NOW_SECONDS));
        assert_eq!(scene.access("ana", None).await.status, 200);
        // Keys that cannot be read change nothing: the event after them is here, and
        // callers are known.
        scene.vault.deny("bo", None, denied::Code::Forbidden);
        assert_eq!(scene.access("bo", None).await.status, 403);
        let asked = scene.vault.calls("Grant");
        scene.vault.push(trust("{".to_owned()));
        scene.vault.push(Event::ForgetDenials(Default::default()));
        let known = &*scene;
        until("the denial is forgotten", async || {
            known.access("bo", None).await;
            known.vault.calls("Grant") > asked
        })
        .await;
        assert_eq!(scene.access("ana", None).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_lags_behind_does_not_bring_old_keys_back() {
    scene(async |scene| {
        scene.vault.store("ana", "github", "s3cret");
        scene.vault.state().attach_again_ms = 50;
        scene.vault.go_away();
        scene.vault.come_back();
        let attaches = async |vault: &FakeVault, more: u32| {
            let wanted = vault.calls("Attach") + more;
            let enough = |state: &State| state.calls["Attach"] >= wanted;
            vault.until("more attaches", enough).await;
        };
        attaches(&scene.vault, 2).await;
        let renewed = Issuer::new();
        scene.vault.push(trust(renewed.jwks()));
        scene.jwt = renewed.token(&good_claims(NOW_SECONDS));
        let new = &*scene;
        until("the new key is trusted", async || {
            new.access("ana", None).await.status == 200
        })
        .await;
        // The answer to Attach still has the old ones. When a second one is asked for,
        // the first is here.
        attaches(&scene.vault, 2).await;
        assert_eq!(scene.access("ana", None).await.status, 200);
    })
    .await;
}
