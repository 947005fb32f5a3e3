//! Whatever is wrong with a token is said on the token, in a sentence that says what to do.

use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenUser};
use serde_json::json;

use crate::logs::is_leak;
use crate::team::{Team, said, sentence};

const VALUE: &[u8] = b"planted-value";

/// A token whose Secret is just so, once it is refused for `reason`; and what it says.
async fn refused(
    type_: &str,
    labelled: bool,
    data: &[(&str, &[u8])],
    reason: &str,
    must_say: &[&str],
) {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret_with("bad", type_, labelled, data).await;
    team.token("bad", "ana").await;
    let token = team.refused("bad", reason).await;
    assert_eq!(said(&token, Usable), "False NoVersion");
    let told = sentence(&token);
    for words in must_say {
        assert!(told.contains(words), "no {words:?} in {told:?}");
    }
    assert!(!is_leak(&told), "{told}");
    assert_eq!(team.event("bad", reason).await, told);

    // And it is mended by mending the Secret.
    team.remove_secret("bad").await;
    team.secret("bad", "planted-good").await;
    team.serving("bad", 1).await;
}

#[tokio::test]
async fn an_unlabelled_secret_is_not_read() {
    let say = ["kubectl label secret bad", "bursar.dev/source=true"];
    refused(
        "Opaque",
        false,
        &[("token", VALUE)],
        "SourceNotLabelled",
        &say,
    )
    .await;
}

#[tokio::test]
async fn a_secret_of_another_type_is_refused() {
    let data: [(&str, &[u8]); 3] = [
        ("token", VALUE),
        ("tls.crt", b"planted-crt"),
        ("tls.key", b"planted-key"),
    ];
    let say = ["Opaque", "kubernetes.io/basic-auth"];
    refused(
        "kubernetes.io/tls",
        true,
        &data,
        "SourceTypeNotAllowed",
        &say,
    )
    .await;
}

#[tokio::test]
async fn a_missing_key_is_named() {
    let say = ["no key token", "secretKeyRef.key"];
    refused(
        "Opaque",
        true,
        &[("other", VALUE)],
        "SourceKeyNotFound",
        &say,
    )
    .await;
}

#[tokio::test]
async fn an_empty_value_is_refused() {
    refused(
        "Opaque",
        true,
        &[("token", b"")],
        "SourceEmpty",
        &["empty", "1 to 32768 bytes"],
    )
    .await;
}

#[tokio::test]
async fn a_value_of_1_mb_is_refused() {
    let long = [VALUE, &vec![b'x'; 1_000_000]].concat();
    refused(
        "Opaque",
        true,
        &[("token", &long)],
        "SourceTooLarge",
        &["1000013 bytes", "32768"],
    )
    .await;
}

#[tokio::test]
async fn a_value_that_is_not_utf8_is_refused() {
    let binary = [VALUE, b"\xff\xfe"].concat();
    refused(
        "Opaque",
        true,
        &[("token", &binary)],
        "SourceNotText",
        &["not UTF-8", "base64"],
    )
    .await;
}

#[tokio::test]
async fn a_missing_secret_is_named_and_its_coming_is_enough() {
    let team = Team::new().await;
    team.user("ana").await;
    team.token("late", "ana").await;
    let token = team.refused("late", "SourceNotFound").await;
    assert!(
        sentence(&token).contains("Secret late does not exist"),
        "{}",
        sentence(&token)
    );
    team.secret("late", "planted-late").await;
    team.serving("late", 1).await;
}

#[tokio::test]
async fn a_source_that_goes_away_leaves_the_newest_version_in_service() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("stripe", "planted-stripe").await;
    team.token("stripe", "ana").await;
    team.serving("stripe", 1).await;
    team.remove_secret("stripe").await;
    let token = team.refused("stripe", "SourceNotFound").await;
    assert_eq!(said(&token, Usable), "True Serving");
    let status = token.status.unwrap();
    assert_eq!(
        (status.version, status.reason.as_deref()),
        (Some(1), Some("SourceNotFound"))
    );
}

#[tokio::test]
async fn a_missing_user_is_named_and_its_coming_is_enough() {
    let team = Team::new().await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let token = team.refused("github", "UserNotFound").await;
    assert_eq!(said(&token, Usable), "False UserNotFound");
    assert!(
        sentence(&token).contains("TokenUser ana does not exist"),
        "{}",
        sentence(&token)
    );
    team.user("ana").await;
    team.serving("github", 1).await;
}

#[tokio::test]
async fn an_expiration_time_that_has_passed_is_said() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("old", "planted-old").await;
    team.token_with(
        "old",
        "ana",
        json!({ "expirationTime": "2020-01-01T00:00:00Z" }),
    )
    .await;
    let token = team
        .wait::<StoredToken>("old", Usable, "False Expired")
        .await;
    assert_eq!(said(&token, Ready), "True Reconciled");
    team.token_with(
        "old",
        "ana",
        json!({ "expirationTime": "2099-01-01T00:00:00Z" }),
    )
    .await;
    team.serving("old", 1).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_onboarded_is_said_on_user_and_token() {
    let team = Team::not_onboarded().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let token = team.refused("github", "NamespaceNotOnboarded").await;
    assert!(
        sentence(&token).contains(&format!("--namespace {}", team.namespace)),
        "{}",
        sentence(&token)
    );
    team.wait::<TokenUser>("ana", Ready, "False NamespaceNotOnboarded")
        .await;
}
