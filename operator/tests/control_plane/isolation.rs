//! One broken object does not stop the others.

use bursar_crds::names::FINALIZER;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenUser};
use bursar_testbed::until;
use kube::api::{ApiResource, DeleteParams, DynamicObject};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, kubectl, operator};
use crate::team::{Team, said};

#[tokio::test]
async fn a_token_that_cannot_be_stored_does_not_stop_the_one_beside_it() {
    let team = Team::new().await;
    team.user("ana").await;
    team.token("broken", "nobody").await;
    team.refused("broken", "UserNotFound").await;
    team.secret("good", "planted-good-1").await;
    team.token("good", "ana").await;
    team.serving("good", 1).await;
    team.secret("good", "planted-good-2").await;
    team.serving("good", 2).await;
    team.refused("broken", "UserNotFound").await;
}

#[tokio::test]
async fn a_version_that_somebody_changed_in_the_database_is_said_and_replaced_by_a_new_value() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github-1").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    Rows::of(&team.namespace).await.tamper().await;
    team.remove_secret("github").await;
    let token = team
        .wait::<StoredToken>("github", Usable, "False IntegrityFailure")
        .await;
    assert_eq!(said(&token, Ready), "False SourceNotFound");
    let note = team.event("github", "IntegrityFailure").await;
    assert!(note.contains("token_version"), "{note}");
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
}

/// As after going back to a release that does not know a role yet.
const FOREIGN_ROLE: &str = "Emperor";

fn set_roles(add: bool) {
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/role/enum";
    let patch = if add {
        json!([{ "op": "add", "path": format!("{path}/-"), "value": FOREIGN_ROLE }])
    } else {
        json!([{ "op": "remove", "path": format!("{path}/3") }])
    };
    let patch = patch.to_string();
    kubectl(&[
        "patch",
        "crd",
        "tokenusers.bursar.dev",
        "--type=json",
        "-p",
        &patch,
    ]);
}

fn condition(object: &DynamicObject, type_: &str) -> Option<(String, String)> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == type_)?;
    let text = |field: &str| found[field].as_str().map(str::to_owned);
    Some((text("reason")?, text("message")?))
}

#[tokio::test]
async fn an_undecodable_object_is_told_so_does_not_stop_others_and_can_be_deleted() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    let users: Api<DynamicObject> = Api::namespaced_with(
        team.client.clone(),
        &team.namespace,
        &ApiResource::erase::<TokenUser>(&()),
    );
    // One that was readable, and has rows, and one that never was.
    team.user("ana").await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;

    set_roles(true);
    let accepted = until(LIMIT, PAUSE, async || {
        let patch = json!({ "spec": { "role": FOREIGN_ROLE } });
        users
            .patch("ana", &Default::default(), &kube::api::Patch::Merge(&patch))
            .await
            .ok()
    });
    assert!(accepted.await.is_some());
    team.user_with("bo", json!({ "role": FOREIGN_ROLE })).await;
    set_roles(false);

    for name in ["ana", "bo"] {
        let told = until(LIMIT, PAUSE, async || {
            let user = users.get(name).await.unwrap();
            condition(&user, "Ready").filter(|ready| ready.0 == "Undecodable")
        });
        let (_, message) = told.await.unwrap();
        assert!(
            message.contains("same release") && !message.contains(FOREIGN_ROLE),
            "{message}"
        );
        team.event(name, "Undecodable").await;
    }

    // Everyone else goes on, across a new list of all objects too.
    operator.stop().await;
    operator.start().await;
    team.user("cy").await;
    team.secret("github", "planted-github").await;
    team.token("github", "cy").await;
    team.serving("github", 1).await;

    // It is told once, not at each look.
    let version = users.get("bo").await.unwrap().resource_version();
    team.secret("github", "planted-github-2").await;
    team.serving("github", 2).await;
    assert_eq!(users.get("bo").await.unwrap().resource_version(), version);

    assert!(
        users
            .get("ana")
            .await
            .unwrap()
            .finalizers()
            .contains(&FINALIZER.to_owned())
    );
    for name in ["ana", "bo"] {
        users.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = until(LIMIT, PAUSE, async || {
            match users.get_opt(name).await.unwrap() {
                Some(_) => None,
                None => Some(()),
            }
        });
        assert!(gone.await.is_some(), "{name} stays");
    }
    team.delete::<StoredToken>("github").await;
    team.delete::<TokenUser>("cy").await;
    assert_eq!(Rows::of(&team.namespace).await.live_users().await, 0);
}
