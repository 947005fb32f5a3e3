//! Quotas, from the YAML to the vault and back into the status.

use bursar_crds::names::FINALIZER;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{TokenQuota, TokenQuotaStatus, TokenUser};
use bursar_testbed::until;
use kube::ResourceExt;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::attach::with_pod;
use crate::broker::Broker;
use crate::database::Rows;
use crate::deletion::finalizers_refused;
use crate::isolation::{condition, set_enum, set_foreign};
use crate::operator::{LIMIT, PAUSE, kubectl, operator, repository};
use crate::team::{Team, said, sentence};

fn of_app() -> Value {
    json!({ "subject": { "serviceAccountName": "app" } })
}

/// A quota of the service account `app`, with this limit.
fn of_app_with(limit: i64) -> Value {
    let mut spec = of_app();
    spec["limit"] = limit.into();
    spec
}

fn status(quota: &TokenQuota) -> &TokenQuotaStatus {
    quota.status.as_ref().unwrap()
}

/// The quota, once it is usable for a reason and tells so much use.
async fn used(team: &Team, name: &str, usable: &str, used: i64) -> TokenQuota {
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
async fn the_example_is_realised_as_it_stands() {
    let team = Team::new().await;
    let yaml = std::fs::read_to_string(repository("examples/quota/quota.yaml")).unwrap();
    let here = yaml.replace(
        "namespace: team-a",
        &format!("namespace: {}", team.namespace),
    );
    assert_ne!(here, yaml);
    let file = team
        .testbed
        .folder()
        .join(format!("{}.yaml", team.namespace));
    std::fs::write(&file, here).unwrap();
    kubectl(&["apply", "-f", file.to_str().unwrap()]);
    team.wait::<TokenQuota>("reads-a-day", Usable, "True Within")
        .await;
    used(&team, "app-trial", "True Within", 0).await;
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
async fn rows_end_with_their_quota_also_when_somebody_took_the_finalizer_off_before() {
    let team = Team::new().await;
    team.quota("limit", of_app()).await;
    used(&team, "limit", "True Within", 0).await;
    let policy = finalizers_refused(&team).await;
    let none = json!({ "metadata": { "finalizers": null } });
    let quotas = team.api::<TokenQuota>();
    let (patch, params) = (Patch::Merge(&none), PatchParams::default());
    quotas.patch("limit", &params, &patch).await.unwrap();
    quotas
        .delete("limit", &DeleteParams::default())
        .await
        .unwrap();
    let rows = Rows::of(&team.namespace).await;
    let ended = until(LIMIT, PAUSE, async || {
        rows.quotas().await.is_empty().then_some(())
    });
    assert!(ended.await.is_some(), "its row lives on");
    kubectl(&["delete", "-f", &policy]);
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
async fn a_limit_that_somebody_changed_in_the_database_is_said_and_written_anew() {
    let team = Team::new().await;
    team.quota("limit", of_app()).await;
    used(&team, "limit", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    rows.tamper_with_quota("limit").await;
    let note = team.event("limit", "IntegrityFailure").await;
    assert!(note.contains("quota"), "{note}");
    rows.charge("limit", 10).await;
    used(&team, "limit", "False Exhausted", 10).await;
}

#[tokio::test]
async fn a_damaged_quota_that_cannot_be_written_anew_is_said_on_the_others_until_it_is_deleted() {
    let team = Team::new().await;
    team.user("ana").await;
    team.quota(
        "of-ana",
        json!({ "subject": { "userRef": { "name": "ana" } } }),
    )
    .await;
    team.quota("other", of_app()).await;
    used(&team, "of-ana", "True Within", 0).await;
    used(&team, "other", "True Within", 0).await;
    // Without its user, nothing says what the row should be.
    team.delete::<TokenUser>("ana").await;
    team.wait::<TokenQuota>("of-ana", Ready, "False UserNotFound")
        .await;
    Rows::of(&team.namespace)
        .await
        .tamper_with_quota("of-ana")
        .await;
    let other = team
        .wait::<TokenQuota>("other", Usable, "False IntegrityFailure")
        .await;
    assert_eq!(said(&other, Ready), "True Reconciled");
    let told = status(&other).message.clone().unwrap();
    assert!(told.contains("Nothing is read in this namespace"), "{told}");
    team.delete::<TokenQuota>("of-ana").await;
    used(&team, "other", "True Within", 0).await;
}

#[tokio::test]
async fn an_undecodable_quota_is_told_so_stays_in_force_and_does_not_stop_others() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    let quotas = kube::Api::<DynamicObject>::namespaced_with(
        team.client.clone(),
        &team.namespace,
        &ApiResource::erase::<TokenQuota>(&()),
    );
    team.quota("foreign", of_app()).await;
    used(&team, "foreign", "True Within", 0).await;
    let kind = "tokenquotas.bursar.dev";
    set_enum(kind, "enforcement", Ok("Plead"));
    set_foreign(&quotas, "foreign", "enforcement", "Plead").await;
    set_enum(kind, "enforcement", Err(2));
    let told = until(LIMIT, PAUSE, async || {
        let quota = quotas.get("foreign").await.unwrap();
        condition(&quota, "Ready").filter(|ready| ready.0 == "Undecodable")
    });
    let (_, message) = told.await.unwrap();
    assert!(!message.contains("Plead"), "{message}");

    // Everyone else goes on, across a new list of all objects too.
    operator.stop().await;
    operator.start().await;
    team.quota("other", json!({ "subject": { "each": "User" } }))
        .await;
    team.wait::<TokenQuota>("other", Usable, "True Within")
        .await;
    let rows = Rows::of(&team.namespace).await;
    let names: Vec<_> = rows.quotas().await.into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["foreign", "other"]);

    quotas
        .delete("foreign", &DeleteParams::default())
        .await
        .unwrap();
    let gone = until(LIMIT, PAUSE, async || {
        let quotas = rows.quotas().await;
        (quotas.len() == 1 && quotas[0].0 == "other").then_some(())
    });
    assert!(gone.await.is_some(), "its row lives on");
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
