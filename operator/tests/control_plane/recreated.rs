//! A namespace that is deleted and created anew with the same names in it starts empty.

use bursar_crds::reasons::ConditionType::Ready;
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_operator::Machine;
use bursar_testbed::until;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::api_server::Relay;
use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, operator};
use crate::team::{Team, said};

async fn fill(team: &Team, value: &str) {
    team.user("ana").await;
    team.secret("github", value).await;
    team.token("github", "ana").await;
    team.quota("limit", json!({ "subject": { "each": "User" } }))
        .await;
}

/// Deletes the namespace and all that is in it, as the API server's controllers would, and makes
/// another one of its name.
async fn recreate(team: &Team) {
    team.delete::<TokenQuota>("limit").await;
    team.delete::<StoredToken>("github").await;
    team.delete::<TokenUser>("ana").await;
    team.remove_secret("github").await;
    team.offboard().await;

    let (namespaces, name) = (
        Api::<Namespace>::all(team.client.clone()),
        team.namespace.as_str(),
    );
    let before = namespaces.get(name).await.unwrap().uid();
    namespaces
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    let mut done: Value = serde_json::to_value(namespaces.get(name).await.unwrap()).unwrap();
    done["spec"]["finalizers"] = json!([]);
    let params = PostParams::default();
    namespaces
        .replace_subresource("finalize", name, &params, &done)
        .await
        .unwrap();
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let after = namespaces.create(&params, &namespace).await.unwrap().uid();
    assert_ne!(before, after);
    team.onboard().await;
}

#[tokio::test]
async fn a_recreated_namespace_starts_empty_also_while_it_is_listed_as_the_one_before() {
    let operator = operator().await;
    let _taken = operator.take().await;
    operator.stop().await;
    let machine = operator.machine().await;
    let relay = Relay::to(machine.kubernetes.clone()).await;
    operator
        .start_on(Machine {
            kubernetes: relay.config(),
            ..machine
        })
        .await;
    let team = Team::of_taken(operator).await;
    fill(&team, "planted-1").await;
    team.serving("github", 1).await;
    team.secret("github", "planted-2").await;
    team.serving("github", 2).await;
    let rows = Rows::of(&team.namespace).await;
    assert_eq!(rows.tenants().await, 1);

    relay.hold_namespaces();
    recreate(&team).await;
    let waits = "bursar_reconciles_total{kind=\"TokenUser\",result=\"Waiting\"}";
    let before = operator.metric(waits).await;
    fill(&team, "planted-3").await;
    // More often than one that only waits to hear whether the namespace is onboarded.
    let tried = until(LIMIT, PAUSE, async || {
        (operator.metric(waits).await >= before + 4.0).then_some(())
    });
    assert!(tried.await.is_some(), "the operator has tried");
    let user = team.get::<TokenUser>("ana").await.unwrap();
    assert_eq!(
        said(&user, Ready),
        "Unknown Pending",
        "nothing is known of it yet"
    );
    assert!(user.finalizers().is_empty());
    assert_eq!((rows.live_users().await, rows.live_tokens().await), (0, 0));
    assert!(rows.quotas().await.is_empty());

    relay.let_namespaces_through();
    team.serving("github", 1).await;
    team.wait::<TokenQuota>("limit", Ready, "True Reconciled")
        .await;
    assert_eq!(rows.tenants().await, 2);
    assert_eq!((rows.live_users().await, rows.live_tokens().await), (1, 1));

    operator.stop().await;
    operator.start().await;
}
