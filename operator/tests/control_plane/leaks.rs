//! No value of a token, and no credential, is in what the operator writes or says.

use bursar_crds::StoredToken;
use serde_json::json;

use crate::logs::{PLANTED, is_leak, leaks, seen_bytes};
use crate::operator::kubectl;
use crate::team::Team;

#[test]
fn the_search_finds_a_planted_value_however_it_is_written() {
    use base64::Engine;
    let value = format!("{PLANTED}x");
    assert!(is_leak(&format!("value={value}")));
    assert!(is_leak(
        &base64::engine::general_purpose::STANDARD.encode(&value)
    ));
    assert!(is_leak(&format!("{:?}", value.as_bytes())));
    assert!(!is_leak("Secret team/github"));
}

#[tokio::test]
async fn planted_values_are_in_no_log_event_status_or_metric() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github-1").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
    // Refused in several ways, each of which could quote it.
    let long = format!("planted-{}", "x".repeat(40_000));
    team.secret("github", &long).await;
    team.refused("github", "SourceTooLarge").await;
    team.secret_with("github", "Opaque", true, &[("token", b"planted-\xff")])
        .await;
    team.refused("github", "SourceNotText").await;
    team.secret("github", "planted-github-2").await;
    team.token_with(
        "github",
        "ana",
        json!({ "revocation": { "throughVersion": 2 } }),
    )
    .await;
    team.event("github", "RevokedBySpec").await;
    team.delete::<StoredToken>("github").await;

    let namespace = ["--namespace", &team.namespace];
    let objects = kubectl(&[
        "get",
        "tokenusers,storedtokens,events,configmaps",
        "-o",
        "yaml",
        namespace[0],
        namespace[1],
    ]);
    assert!(!is_leak(&objects), "{objects}");
    let metrics = team.operator.page("metrics").await.unwrap();
    assert!(metrics.contains("bursar_versions_stored_total") && !is_leak(&metrics));
    assert!(
        !metrics.contains(&team.namespace) && !metrics.contains("github"),
        "{metrics}"
    );

    assert!(seen_bytes() > 100_000, "the log is watched");
    assert_eq!(leaks(), Vec::<String>::new());
}
