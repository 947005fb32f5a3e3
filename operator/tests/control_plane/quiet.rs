//! Nothing is written when nothing changed.

use bursar_crds::reasons::ConditionType::Usable;
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_testbed::until;
use kube::ResourceExt;
use serde_json::json;

use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, operator};
use crate::team::Team;

/// The resource versions of all objects of ours in the namespace: each write makes a new one.
async fn versions(team: &Team) -> Vec<(String, Option<String>)> {
    let list = Default::default();
    let users = team.api::<TokenUser>().list(&list).await.unwrap().items;
    let tokens = team.api::<StoredToken>().list(&list).await.unwrap().items;
    let quotas = team.api::<TokenQuota>().list(&list).await.unwrap().items;
    let users = users.iter().map(of);
    let tokens = tokens.iter().map(of);
    users.chain(tokens).chain(quotas.iter().map(of)).collect()
}

fn of<K: ResourceExt>(object: &K) -> (String, Option<String>) {
    (object.name_any(), object.resource_version())
}

/// How many attempts have ended so far, of all kinds and whatever came of them.
async fn attempts(team: &Team) -> u64 {
    let page = team.operator.page("metrics").await.unwrap_or_default();
    let counts = page
        .lines()
        .filter(|line| line.starts_with("bursar_reconciles_total{"));
    counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn a_restart_writes_nothing_to_objects_or_database() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    team.user_with(
        "bo",
        json!({ "email": "bo@example.org", "suspended": true }),
    )
    .await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.token_with(
        "narrow",
        "ana",
        json!({
            "source": { "generate": {} },
            "consumers": [{ "serviceAccountName": "app", "purposes": ["b", "a"] }],
            "expirationTime": "2099-01-01T00:00:00.5Z",
        }),
    )
    .await;
    team.serving("narrow", 1).await;
    team.token("missing", "ana").await;
    team.refused("missing", "SourceNotFound").await;
    team.secret("revoked", "planted-revoked").await;
    team.token("revoked", "ana").await;
    team.serving("revoked", 1).await;
    let revoked = json!({ "revocation": { "throughVersion": 1 } });
    team.token_with("revoked", "ana", revoked).await;
    team.event("revoked", "RevokedBySpec").await;
    team.quota(
        "limit",
        json!({ "subject": { "userRef": { "name": "ana" } } }),
    )
    .await;
    team.wait::<TokenQuota>("limit", Usable, "True Within")
        .await;
    let rows = Rows::of(&team.namespace).await;
    let settled = (versions(&team).await, rows.snapshot().await);

    operator.stop().await;
    operator.start().await;
    // All seven objects of this test, and whatever others there are.
    let looked = until(LIMIT, PAUSE, async || {
        (attempts(&team).await >= 7).then_some(())
    });
    assert!(looked.await.is_some());
    // A change that is heard of after all that was there from the start.
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;

    let after = (versions(&team).await, rows.snapshot().await);
    let changed: Vec<_> = settled
        .0
        .iter()
        .filter(|object| !after.0.contains(object))
        .map(|object| &object.0)
        .collect();
    assert_eq!(changed, ["github"]);
    let changed: Vec<_> = settled
        .1
        .iter()
        .filter(|row| !after.1.contains(row))
        .collect();
    assert_eq!(
        changed.len(),
        1,
        "the token's own row alone was written anew: {changed:#?}"
    );
    assert!(changed[0].starts_with("token "));
    assert_eq!(after.1.len(), settled.1.len() + 1, "one version came");
}
