//! From a Secret, or from nothing, to a version in the vault.

use bursar_crds::StoredToken;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_vault::{Clock, SystemClock};
use jiff::SignedDuration;
use serde_json::json;

use crate::database::Rows;
use crate::logs::is_leak;
use crate::team::{Team, said};

#[tokio::test]
async fn a_secrets_value_becomes_a_version_and_a_new_value_the_next() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github-1").await;
    team.token("github", "ana").await;
    let token = team.serving("github", 1).await;
    let user = team.get::<bursar_crds::TokenUser>("ana").await.unwrap();
    let status = token.status.unwrap();
    assert_eq!(status.user_uid, user.metadata.uid);
    assert!(status.version_time.is_some());
    assert_eq!(status.observed_generation, token.metadata.generation);

    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
    // An older value is a new version too, unless it was revoked.
    team.secret("github", "planted-github-1").await;
    team.serving("github", 3).await;

    let notes: Vec<_> = team
        .events("github")
        .await
        .into_iter()
        .map(|event| event.1)
        .collect();
    for version in 1..=3 {
        let note = format!("Version {version}, from its Secret, was stored.");
        assert_eq!(
            notes.iter().filter(|told| **told == note).count(),
            1,
            "{notes:?}"
        );
    }
    let took = team
        .operator
        .metric("bursar_secret_to_stored_seconds_count")
        .await;
    assert!(took >= 2.0, "two changes were heard of, not {took}");
}

#[tokio::test]
async fn a_change_beside_the_value_makes_no_version() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    let token = b"planted-github";
    team.secret_with(
        "github",
        "Opaque",
        true,
        &[("token", token), ("other", b"planted-x")],
    )
    .await;
    // The next change is heard of after it, so by then the first has been looked at.
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
}

#[tokio::test]
async fn a_value_that_ends_in_whitespace_is_stored_with_one_warning_per_version() {
    let team = Team::new().await;
    team.user("ana").await;
    for (version, value) in [
        (1, "planted-github\n"),
        (2, "planted-two "),
        (3, "planted-three"),
    ] {
        team.secret("github", value).await;
        team.token("github", "ana").await;
        team.serving("github", version).await;
    }
    // A version's events are told before the status says that it is served.
    let warned: Vec<String> = team
        .events("github")
        .await
        .into_iter()
        .filter(|event| event.0 == "ValueEndsInWhitespace")
        .map(|event| event.1)
        .collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    for version in [1, 2] {
        let begins = format!("Version {version} ends in ");
        assert!(
            warned.iter().any(|note| note.starts_with(&begins)),
            "{warned:?}"
        );
    }
    for note in &warned {
        assert!(
            note.contains("byte for byte") && note.contains("printf %s"),
            "{note}"
        );
        assert!(!is_leak(note), "{note}");
    }
}

#[tokio::test]
async fn a_generated_token_gets_one_version_and_keeps_it() {
    let team = Team::new().await;
    team.user("ana").await;
    let source = json!({ "source": { "generate": { "format": "Hex", "length": 40 } } });
    team.token_with("key", "ana", source).await;
    team.serving("key", 1).await;
    assert_eq!(
        team.event("key", "VersionStored").await,
        "Version 1, made by the vault, was stored."
    );
    team.token_with(
        "key",
        "ana",
        json!({
            "source": { "generate": { "format": "Hex", "length": 40 } },
            "deletionPolicy": "Shred",
        }),
    )
    .await;
    let token = team
        .wait::<StoredToken>("key", Ready, "True Reconciled")
        .await;
    assert_eq!(token.status.unwrap().version, Some(1));
}

#[tokio::test]
async fn a_revocation_makes_usable_false_and_leaves_ready_true() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("slack", "planted-slack-1").await;
    team.token("slack", "ana").await;
    team.serving("slack", 1).await;

    let revoke = |through: i64| json!({ "revocation": { "throughVersion": through } });
    team.token_with("slack", "ana", revoke(1)).await;
    let token = team
        .wait::<StoredToken>("slack", Usable, "False RevokedBySpec")
        .await;
    assert_eq!(said(&token, Ready), "True Reconciled");
    assert_eq!(
        token.status.unwrap().reason.as_deref(),
        Some("RevokedBySpec")
    );
    team.event("slack", "RevokedBySpec").await;
    assert_eq!(
        Rows::of(&team.namespace).await.versions().await,
        [(1, "Dead".to_owned())]
    );

    team.secret("slack", "planted-slack-2").await;
    team.serving("slack", 2).await;
    // What was revoked does not come back, whatever brings it.
    team.secret("slack", "planted-slack-1").await;
    let token = team.refused("slack", "RevokedValueReused").await;
    assert_eq!(said(&token, Usable), "True Serving");
    assert_eq!(token.status.unwrap().version, Some(2));
}

#[tokio::test]
async fn a_revocation_is_said_on_every_token_that_has_the_value() {
    let team = Team::new().await;
    team.user("ana").await;
    for name in ["github", "copy", "slack"] {
        let value = name.replace("copy", "github");
        team.secret(name, &format!("planted-{value}")).await;
        team.token(name, "ana").await;
        team.serving(name, 1).await;
    }
    let revoked = json!({ "revocation": { "throughVersion": 1 } });
    team.token_with("github", "ana", revoked).await;
    // Nothing of its own has changed.
    let copy = team.refused("copy", "RevokedValueReused").await;
    assert_eq!(said(&copy, Usable), "False NoVersion");
    assert!(team.event("copy", "NoVersion").await.contains("revoked"));
    team.serving("slack", 1).await;

    team.secret("copy", "planted-new").await;
    team.serving("copy", 2).await;
}

#[tokio::test]
async fn a_version_is_numbered_above_what_was_revoked_before_it_came() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("new", "planted-new").await;
    team.token_with(
        "new",
        "ana",
        json!({ "revocation": { "throughVersion": 4 } }),
    )
    .await;
    team.serving("new", 5).await;
}

#[tokio::test]
async fn a_token_expires_by_itself() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("short", "planted-short").await;
    let soon = SystemClock.now() + SignedDuration::from_secs(8);
    let expires = format!("{:.0}", soon);
    team.token_with("short", "ana", json!({ "expirationTime": expires }))
        .await;
    team.serving("short", 1).await;
    let token = team
        .wait::<StoredToken>("short", Usable, "False Expired")
        .await;
    assert_eq!(said(&token, Ready), "True Reconciled");
}

#[tokio::test]
async fn a_token_expires_also_without_its_secret_and_in_a_namespace_that_is_not_onboarded_any_more()
{
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.remove_secret("github").await;
    team.refused("github", "SourceNotFound").await;
    expires(&team, "SourceNotFound").await;

    team.token("github", "ana").await;
    team.wait::<StoredToken>("github", Usable, "True Serving")
        .await;
    team.offboard().await;
    team.refused("github", "NamespaceNotOnboarded").await;
    expires(&team, "NamespaceNotOnboarded").await;
}

/// Gives the token some seconds to live, and waits until it is said to be dead; it is not ready
/// all the while.
async fn expires(team: &Team, reason: &str) {
    let soon = SystemClock.now() + SignedDuration::from_secs(8);
    let spec = json!({ "expirationTime": format!("{soon:.0}") });
    team.token_with("github", "ana", spec).await;
    team.wait::<StoredToken>("github", Usable, "True Serving")
        .await;
    let token = team
        .wait::<StoredToken>("github", Usable, "False Expired")
        .await;
    assert_eq!(said(&token, Ready), format!("False {reason}"));
}
