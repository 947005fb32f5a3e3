//! No value of a token, and no credential, is in what the operator writes or says.

use bursar_crds::StoredToken;
use serde_json::json;

use crate::attach::with_pod;
use crate::broker::Broker;
use crate::logs::{PLANTED, is_leak, seen_bytes};
use crate::operator::kubectl;

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
async fn planted_values_are_in_no_event_status_or_metric() {
    let team = with_pod().await;
    team.secret("github", "planted-github-1").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
    let mut broker = Broker::attached(&team).await;
    let granted = broker.granted("ana", "github").await;
    broker.close(granted).await;
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

    // A leak there would have ended this process.
    assert!(seen_bytes() > 100_000, "the log is watched");
}
