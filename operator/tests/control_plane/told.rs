//! What a token's status tells of its use: who still holds what was taken back, when it was last
//! used and by whom, and that a quota of all its readers is used up.

use bursar_crds::StoredToken;
use bursar_crds::conditions::find;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_testbed::until;
use bursar_vault::{Clock, SystemClock};
use kube::ResourceExt;
use serde_json::json;

use crate::attach::with_pod;
use crate::broker::Broker;
use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, kubectl, operator};
use crate::team::{Team, said};

/// A team whose pod's broker holds an allowance of ana's token github.
async fn held() -> (Team, Broker, bursar_wire::v1alpha1::Granted) {
    let team = with_pod().await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    let mut broker = Broker::attached(&team).await;
    let granted = broker.granted("ana", "github").await;
    (team, broker, granted)
}

fn why(token: &StoredToken) -> String {
    let status = token.status.as_ref().unwrap();
    find(&status.conditions, Usable).unwrap().message.clone()
}

fn is_used(token: &StoredToken) -> bool {
    let told = token.status.as_ref();
    told.is_some_and(|told| told.last_used_time.is_some())
}

async fn draining(team: &Team, usable: &str) -> StoredToken {
    let want = format!("{usable} and draining");
    let token = team
        .wait_for("github", &want, |token: &StoredToken| {
            let told = token.status.as_ref();
            said(token, Usable) == usable && told.is_some_and(|told| told.draining.is_some())
        })
        .await;
    let told = token.status.as_ref().unwrap().draining.as_ref().unwrap();
    assert_eq!(told.brokers, 1);
    let wait = told
        .certain_time
        .0
        .duration_since(SystemClock.now())
        .as_secs();
    // Half of it is the lease; the test may be slow.
    assert!((1..=151).contains(&wait), "{wait} s");
    let sentence = why(&token);
    let words = format!(
        "1 broker has yet to confirm that they hold nothing of what was taken \
                         back; it is certain by {}.",
        told.certain_time.0
    );
    assert!(sentence.ends_with(&words), "{sentence}");
    token
}

async fn receipts(team: &Team) -> usize {
    let events = team.events("github").await;
    let receipts = events
        .iter()
        .filter(|event| event.0 == "RevocationComplete");
    receipts.count()
}

async fn drained(team: &Team) -> StoredToken {
    team.wait_for("github", "drained", |token: &StoredToken| {
        let told = token.status.as_ref();
        told.is_some_and(|told| told.draining.is_none())
    })
    .await
}

#[tokio::test]
async fn a_revocation_drains_until_the_last_broker_confirms_and_then_gives_a_receipt() {
    let (team, mut broker, granted) = held().await;
    let revoked = json!({ "revocation": { "throughVersion": 1 } });
    team.token_with("github", "ana", revoked).await;
    // The broker says nothing, as one that is stopped does.
    let token = draining(&team, "False RevokedBySpec").await;
    assert_eq!(said(&token, Ready), "True Reconciled");

    broker.serve(&granted, 3).await;
    broker.close(granted).await;
    let token = drained(&team).await;
    assert_eq!(said(&token, Usable), "False RevokedBySpec");
    assert!(!why(&token).contains("confirm"), "{}", why(&token));
    let receipt = team.event("github", "RevocationComplete").await;
    for words in [
        "1 broker confirmed.",
        "The last access to it on record was at 20",
    ] {
        assert!(receipt.contains(words), "no {words:?} in {receipt:?}");
    }
    assert!(!receipt.contains("never did"), "{receipt}");
    assert_eq!(receipts(&team).await, 1);
}

#[tokio::test]
async fn each_revocation_gives_its_receipt_though_the_broker_confirmed_before_anybody_looked() {
    let (team, mut broker, mut granted) = held().await;
    team.bind("bursar-revoker", "bursar-revoker").await;
    for version in 1..=2 {
        let revoked = team.bursar(&["revoke", "github"]).await.unwrap();
        assert!(revoked.success, "{}", revoked.out);
        // Controllers look a second later, unless something else wakes them.
        broker.close(granted).await;
        team.wait::<StoredToken>("github", Usable, "False RevokedByAPI")
            .await;
        let token = drained(&team).await;
        assert!(token.status.unwrap().taken_back_time.is_some());
        let told = until(LIMIT, PAUSE, async || {
            (receipts(&team).await >= version).then_some(())
        });
        told.await.expect("a receipt");
        team.secret("github", &format!("planted-github-{version}"))
            .await;
        let next = i64::try_from(version).unwrap() + 1;
        team.serving("github", next).await;
        assert_eq!(receipts(&team).await, version);
        granted = broker.granted("ana", "github").await;
    }
}

#[tokio::test]
async fn a_broker_that_never_confirms_is_given_up_when_its_allowance_has_lapsed() {
    let (team, _broker, _granted) = held().await;
    team.user_with("ana", json!({ "suspended": true })).await;
    draining(&team, "False UserSuspended").await;
    // As the sweep does once it is certain, a lease and a grace after the end.
    let rows = Rows::of(&team.namespace).await;
    rows.lapse().await;
    drained(&team).await;
    let receipt = team.event("github", "RevocationComplete").await;
    for words in [
        "0 brokers confirmed.",
        "1 never did:",
        "No access to it around that time",
    ] {
        assert!(receipt.contains(words), "no {words:?} in {receipt:?}");
    }
}

#[tokio::test]
async fn the_last_use_is_told_with_its_service_account_and_not_again_for_the_next_one() {
    let (team, mut broker, granted) = held().await;
    let before = SystemClock.now().as_second();
    assert_eq!(
        team.serving("github", 1)
            .await
            .status
            .unwrap()
            .last_used_time,
        None
    );
    broker.serve(&granted, 1).await;
    let told = team.wait_for("github", "told as used", is_used).await;
    let status = told.status.clone().unwrap();
    assert_eq!(status.last_used_by.as_deref(), Some("app"));
    let time = status.last_used_time.unwrap().0.as_second();
    assert!((before..=SystemClock.now().as_second()).contains(&time));
    assert_eq!(
        said(&told, Usable),
        "True Serving",
        "the rest stays as it was"
    );

    // What comes after is no news for ten minutes; that of another token is.
    broker.serve(&granted, 1).await;
    team.secret("slack", "planted-slack").await;
    team.token("slack", "ana").await;
    team.serving("slack", 1).await;
    let of_slack = broker.granted("ana", "slack").await;
    broker.serve(&of_slack, 1).await;
    team.wait_for("slack", "told as used", is_used).await;
    let now = team.get::<StoredToken>("github").await.unwrap();
    assert_eq!(now.resource_version(), told.resource_version());

    // A reconcile leaves it as it is.
    team.secret("github", "planted-github-2").await;
    let token = team.serving("github", 2).await;
    assert_eq!(token.status.unwrap().last_used_by.as_deref(), Some("app"));
    let table = kubectl(&["get", "stok", "github", "--namespace", &team.namespace]);
    let (header, line) = table.split_once('\n').unwrap();
    let (from, to) = (
        header.find("LAST USED").unwrap(),
        header.find("AGE").unwrap(),
    );
    let age = line[from..to].trim();
    assert!(age.ends_with('s') || age.contains('m'), "{table}");
}

#[tokio::test]
async fn a_token_is_not_usable_while_a_quota_of_all_its_readers_is_used_up() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    let of_token =
        |limit: i64| json!({ "subject": { "tokenRef": { "name": "github" } }, "limit": limit });
    team.quota("limit", of_token(10)).await;
    // One of its readers alone.
    team.quota(
        "of-app",
        json!({ "subject": { "serviceAccountName": "app" }, "limit": 0 }),
    )
    .await;
    team.wait::<bursar_crds::TokenQuota>("limit", Usable, "True Within")
        .await;
    team.wait::<bursar_crds::TokenQuota>("of-app", Usable, "False Exhausted")
        .await;
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 10).await;
    let token = team
        .wait::<StoredToken>("github", Usable, "False Exhausted")
        .await;
    assert_eq!(said(&token, Ready), "True Reconciled");
    assert!(
        why(&token).starts_with("TokenQuota limit, which all"),
        "{}",
        why(&token)
    );
    team.quota("limit", of_token(20)).await;
    team.serving("github", 1).await;
    rows.charge("limit", 20).await;
    team.wait::<StoredToken>("github", Usable, "False Exhausted")
        .await;
    // As at the end of its window.
    rows.charge("limit", 0).await;
    team.serving("github", 1).await;
    rows.charge("limit", 20).await;
    team.wait::<StoredToken>("github", Usable, "False Exhausted")
        .await;
    team.delete::<bursar_crds::TokenQuota>("limit").await;
    team.serving("github", 1).await;
}

#[tokio::test]
async fn a_restart_tells_nothing_anew() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    for name in ["used", "spent", "marker"] {
        team.secret(name, &format!("planted-{name}")).await;
        team.token(name, "ana").await;
        team.serving(name, 1).await;
    }
    let of_spent = json!({ "subject": { "tokenRef": { "name": "spent" } }, "limit": 0 });
    team.quota("limit", of_spent).await;
    let spent = team
        .wait::<StoredToken>("spent", Usable, "False Exhausted")
        .await;
    let rows = Rows::of(&team.namespace).await;
    rows.record_use("used").await;
    let used = team.wait_for("used", "told as used", is_used).await;

    operator.stop().await;
    rows.record_use("marker").await;
    operator.start().await;
    team.wait_for("marker", "told as used", is_used).await;
    for before in [spent, used] {
        let now = team.get::<StoredToken>(&before.name_any()).await.unwrap();
        assert_eq!(now.resource_version(), before.resource_version());
    }
}
