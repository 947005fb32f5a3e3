//! Quotas, from the YAML to the vault and back into the status.

use bursar_crds::names::FINALIZER;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{TokenQuota, TokenQuotaStatus, TokenUser};
use bursar_testbed::until;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::attach::with_pod;
use crate::broker::Broker;
use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, kubectl, repository};
use crate::team::{Team, said, sentence};

/// A quota of the service account `app`.
pub(crate) fn of_app() -> Value {
    json!({ "subject": { "serviceAccountName": "app" } })
}

/// The same, with this limit.
pub(crate) fn of_app_with(limit: i64) -> Value {
    let mut spec = of_app();
    spec["limit"] = limit.into();
    spec
}

/// What it tells; every quota has that from its first moment.
pub(crate) fn status(quota: &TokenQuota) -> &TokenQuotaStatus {
    quota.status.as_ref().unwrap()
}

/// The quota, once it is usable for a reason and tells so much use.
pub(crate) async fn used(team: &Team, name: &str, usable: &str, used: i64) -> TokenQuota {
    let want = format!("{usable} with {used} used");
    team.wait_for(name, &want, |quota: &TokenQuota| {
        let told = quota.status.as_ref();
        let told = told.filter(|told| told.observed_generation == quota.metadata.generation);
        said(quota, Usable) == usable && told.and_then(|told| told.used) == Some(used)
    })
    .await
}

#[tokio::test]
async fn a_quota_of_each_kind_of_subject_is_held_and_told() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let daily = json!({ "type": "Period", "period": "24h" });
    for (name, subject, window) in [
        ("a-user", json!({ "userRef": { "name": "ana" } }), &daily),
        (
            "b-token",
            json!({ "tokenRef": { "name": "github" } }),
            &daily,
        ),
        ("c-account", json!({ "serviceAccountName": "app" }), &daily),
        (
            "d-each",
            json!({ "each": "User" }),
            &json!({ "type": "Lifetime" }),
        ),
    ] {
        team.quota(name, json!({ "subject": subject, "window": window }))
            .await;
    }
    for (name, subject, count) in [
        ("a-user", "user/ana", Some(0)),
        ("b-token", "token/github", Some(0)),
        ("c-account", "serviceaccount/app", Some(0)),
        ("d-each", "each user", None),
    ] {
        let quota = team.wait::<TokenQuota>(name, Usable, "True Within").await;
        assert_eq!(said(&quota, Ready), "True Reconciled");
        assert!(quota.finalizers().contains(&FINALIZER.to_owned()));
        let told = status(&quota);
        assert_eq!(told.subject.as_deref(), Some(subject));
        assert_eq!(told.used, count);
        assert!(told.enforced_from_time.is_some(), "{told:#?}");
        let end = told.window_end_time.as_ref().map(|end| end.0.as_second());
        match count {
            Some(_) => assert_eq!(end.unwrap() % 86_400, 0, "midnight UTC"),
            None => assert_eq!(end, None, "a lifetime"),
        }
    }
    let uid = |uid: Option<String>| uid.unwrap();
    let user = uid(team.get::<TokenUser>("ana").await.unwrap().uid());
    let token = team.get::<bursar_crds::StoredToken>("github").await;
    let subjects = Rows::of(&team.namespace).await.quotas().await;
    let expected = [
        ("a-user", user.as_str()),
        ("b-token", &uid(token.unwrap().uid())),
        ("c-account", "app"),
        ("d-each", ""),
    ]
    .map(|(name, subject)| (name.to_owned(), subject.to_owned()));
    assert_eq!(subjects, expected);
}

#[tokio::test]
async fn the_examples_are_realised_as_they_stand() {
    let team = Team::new().await;
    for example in ["reads", "uploads"] {
        let path = repository(&format!("examples/quota/{example}.yaml"));
        let yaml = std::fs::read_to_string(path).unwrap();
        let here = yaml.replace(
            "namespace: team-a",
            &format!("namespace: {}", team.namespace),
        );
        assert_ne!(here, yaml);
        let file = format!("{}-{example}.yaml", team.namespace);
        let file = team.testbed.folder().join(file);
        std::fs::write(&file, here).unwrap();
        kubectl(&["apply", "-f", file.to_str().unwrap()]);
    }
    team.wait::<TokenQuota>("reads-a-day", Usable, "True Within")
        .await;
    used(&team, "app-trial", "True Within", 0).await;
    let uploads = team
        .wait::<TokenQuota>("uploads", Usable, "True Within")
        .await;
    assert_eq!(uploads.spec.counter, "filesUploaded");
}

#[tokio::test]
async fn use_of_another_counter_is_told_in_steps_too_and_holds_from_the_start() {
    let team = Team::new().await;
    let mut spec = of_app_with(20);
    spec["counter"] = "filesUploaded".into();
    team.quota("limit", spec).await;
    let quota = used(&team, "limit", "True Within", 0).await;
    assert!(status(&quota).enforced_from_time.is_some());
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 13).await;
    used(&team, "limit", "True Within", 12).await;
    rows.charge("limit", 20).await;
    used(&team, "limit", "False Exhausted", 20).await;
}

#[tokio::test]
async fn nothing_is_stored_for_a_user_or_token_that_is_not_there_until_it_comes() {
    let team = Team::new().await;
    team.quota(
        "of-ana",
        json!({ "subject": { "userRef": { "name": "ana" } } }),
    )
    .await;
    let of_token = json!({ "subject": { "tokenRef": { "name": "github" } } });
    team.quota("of-github", of_token).await;
    let rows = Rows::of(&team.namespace).await;
    for (name, reason, missing) in [
        ("of-ana", "UserNotFound", "TokenUser ana"),
        ("of-github", "TokenNotFound", "StoredToken github"),
    ] {
        let refused = format!("False {reason}");
        let quota = team.wait::<TokenQuota>(name, Ready, &refused).await;
        assert_eq!(said(&quota, Usable), refused);
        assert!(sentence(&quota).contains(missing), "{}", sentence(&quota));
        assert!(quota.finalizers().is_empty());
        assert_eq!(team.event(name, reason).await, sentence(&quota));
    }
    assert!(rows.quotas().await.is_empty());

    team.user("ana").await;
    used(&team, "of-ana", "True Within", 0).await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let quota = used(&team, "of-github", "True Within", 0).await;
    assert_eq!(said(&quota, Ready), "True Reconciled");
    assert_eq!(rows.quotas().await.len(), 2);
}

#[tokio::test]
async fn a_quota_outlives_its_user_and_follows_the_next_one_of_that_name() {
    let team = Team::new().await;
    team.user("ana").await;
    team.quota(
        "limit",
        json!({ "subject": { "userRef": { "name": "ana" } } }),
    )
    .await;
    used(&team, "limit", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 10).await;
    used(&team, "limit", "False Exhausted", 10).await;
    let before = rows.quotas().await;

    team.delete::<TokenUser>("ana").await;
    let quota = team
        .wait::<TokenQuota>("limit", Ready, "False UserNotFound")
        .await;
    assert_eq!(status(&quota).used, None, "it is nobody's");
    assert_eq!(rows.quotas().await, before, "the row stays");

    team.user("ana").await;
    used(&team, "limit", "True Within", 0).await;
    let user = team.get::<TokenUser>("ana").await.unwrap().uid().unwrap();
    assert_eq!(rows.quotas().await, [("limit".to_owned(), user)]);
}

#[tokio::test]
async fn use_is_told_in_steps_and_a_limit_may_rise_and_fall() {
    let team = Team::new().await;
    team.quota("limit", of_app_with(100)).await;
    let first = used(&team, "limit", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 57).await;
    used(&team, "limit", "True Within", 50).await;
    rows.charge("limit", 100).await;
    let quota = used(&team, "limit", "False Exhausted", 100).await;
    assert_eq!(said(&quota, Ready), "True Reconciled");
    assert_eq!(status(&quota).reason.as_deref(), Some("Exhausted"));
    let told = team.event("limit", "Exhausted").await;
    assert!(told.contains("raise spec.limit"), "{told}");

    let from = &status(&first).enforced_from_time;
    // Kubernetes' times are whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    team.quota("limit", of_app_with(1000)).await;
    let quota = used(&team, "limit", "True Within", 100).await;
    assert_eq!(&status(&quota).enforced_from_time, from, "as strict before");
    team.event("limit", "Within").await;
    team.quota("limit", of_app_with(30)).await;
    let quota = used(&team, "limit", "False Exhausted", 30).await;
    let later = status(&quota).enforced_from_time.as_ref().unwrap();
    assert!(
        later.0 > from.as_ref().unwrap().0,
        "only since it is so low"
    );
}

#[tokio::test]
async fn a_quota_that_only_warns_says_that_it_is_exceeded_and_stays_usable() {
    let team = Team::new().await;
    let mut spec = of_app();
    spec["enforcement"] = "Warn".into();
    team.quota("limit", spec.clone()).await;
    used(&team, "limit", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 10).await;
    used(&team, "limit", "True Within", 10).await;
    rows.charge("limit", 11).await;
    used(&team, "limit", "True Exceeded", 10).await;
    team.event("limit", "Exceeded").await;
    spec["enforcement"] = "Enforce".into();
    team.quota("limit", spec).await;
    used(&team, "limit", "False Exhausted", 10).await;
}

#[tokio::test]
async fn a_quota_that_is_deleted_leaves_no_row_and_one_made_anew_counts_on() {
    let team = Team::new().await;
    team.quota("limit", of_app()).await;
    used(&team, "limit", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    rows.charge("limit", 7).await;
    used(&team, "limit", "True Within", 7).await;
    team.delete::<TokenQuota>("limit").await;
    assert!(rows.quotas().await.is_empty());

    team.quota("anew", of_app()).await;
    used(&team, "anew", "True Within", 7).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_onboarded_is_said_on_its_quotas_and_onboarding_is_enough() {
    let team = Team::not_onboarded().await;
    team.quota("limit", of_app()).await;
    let quota = team
        .wait::<TokenQuota>("limit", Ready, "False NamespaceNotOnboarded")
        .await;
    assert!(quota.finalizers().is_empty());
    team.onboard().await;
    used(&team, "limit", "True Within", 0).await;

    // What is stored stays in force, and follows the spec.
    team.offboard().await;
    team.wait::<TokenQuota>("limit", Ready, "False NamespaceNotOnboarded")
        .await;
    team.quota("limit", of_app_with(0)).await;
    used(&team, "limit", "False Exhausted", 0).await;
}

#[tokio::test]
async fn looking_again_and_again_writes_nothing_while_use_stays_within_a_step() {
    let team = Team::new().await;
    team.quota("still", of_app_with(1000)).await;
    let moving = json!({ "subject": { "each": "User" }, "limit": 1 });
    team.quota("moving", moving).await;
    let still = used(&team, "still", "True Within", 0).await;
    team.wait::<TokenQuota>("moving", Usable, "True Within")
        .await;
    let rows = Rows::of(&team.namespace).await;
    let quotas = rows.quotas().await;
    let metric = "bursar_reconciles_total{kind=\"TokenQuota\",result=\"Reconciled\"}";
    let before = team.operator.metric(metric).await;
    // Each look finds another number.
    for units in 1..=5 {
        rows.charge("still", units * 19).await;
        let looks = before + 20.0 * units as f64;
        let looked = until(LIMIT, PAUSE, async || {
            (team.operator.metric(metric).await >= looks).then_some(())
        });
        assert!(looked.await.is_some());
    }
    let after = team.get::<TokenQuota>("still").await.unwrap();
    assert_eq!(after.resource_version(), still.resource_version());
    assert_eq!(rows.quotas().await, quotas);
    // It was looked at all the while.
    rows.charge("still", 100).await;
    used(&team, "still", "True Within", 100).await;
}

#[tokio::test]
async fn a_quota_is_enforced_once_what_was_granted_before_it_is_given_back() {
    let team = with_pod().await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    let mut broker = Broker::attached(&team).await;
    let before = broker.granted("ana", "github").await;

    team.quota("limit", of_app()).await;
    let quota = used(&team, "limit", "True Within", 0).await;
    assert_eq!(said(&quota, Ready), "True Reconciled");
    assert_eq!(status(&quota).enforced_from_time, None);

    broker.close(before).await;
    let quota = team
        .wait_for("limit", "enforced", |quota: &TokenQuota| {
            status(quota).enforced_from_time.is_some()
        })
        .await;
    assert_eq!(
        status(&quota).used,
        Some(0),
        "what came before is not counted"
    );

    let granted = broker.granted("ana", "github").await;
    used(&team, "limit", "True Within", granted.units.into()).await;
}
