//! Quotas that somebody tampered with, and quotas that are none to this release.

use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{TokenQuota, TokenUser};
use bursar_testbed::until;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::json;

use crate::database::Rows;
use crate::deletion::finalizers_refused;
use crate::isolation::{condition, set_enum, set_foreign};
use crate::operator::{LIMIT, PAUSE, kubectl, operator};
use crate::quotas::{of_app, of_app_with, status, used};
use crate::team::{Team, said};

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
async fn a_list_of_quotas_that_somebody_changed_is_made_anew_from_those_that_are_stored() {
    let team = Team::new().await;
    team.quota(
        "never",
        json!({ "subject": { "userRef": { "name": "nobody" } } }),
    )
    .await;
    team.wait::<TokenQuota>("never", Ready, "False UserNotFound")
        .await;
    team.quota("first", of_app()).await;
    used(&team, "first", "True Within", 0).await;
    team.quota("second", of_app_with(20)).await;
    used(&team, "second", "True Within", 0).await;
    let rows = Rows::of(&team.namespace).await;
    let before = rows.quota_list().await.unwrap();
    assert_eq!(before.0.len(), 2);
    rows.tamper_with_quota_list().await;
    let anew = until(LIMIT, PAUSE, async || rows.quota_list().await);
    // In a new epoch. Were one of them missing for a moment, it would be the one after.
    assert_eq!(anew.await.unwrap(), (before.0, before.1 + 1));
    for name in ["first", "second"] {
        used(&team, name, "True Within", 0).await;
    }
}
