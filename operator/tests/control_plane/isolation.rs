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

/// Lets the API server take one value more for a field of the spec, or takes that back (with the
/// number of values there are without it).
pub(crate) fn set_enum(kind: &str, field: &str, change: Result<&str, usize>) {
    let path =
        format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}/enum");
    let patch = match change {
        Ok(value) => json!([{ "op": "add", "path": format!("{path}/-"), "value": value }]),
        Err(known) => json!([{ "op": "remove", "path": format!("{path}/{known}") }]),
    };
    let patch = patch.to_string();
    kubectl(&["patch", "crd", kind, "--type=json", "-p", &patch]);
}

/// Gives a field a value that only the API server knows.
pub(crate) async fn set_foreign(
    objects: &Api<DynamicObject>,
    name: &str,
    field: &str,
    value: &str,
) {
    let accepted = until(LIMIT, PAUSE, async || {
        let patch = json!({ "spec": { field: value } });
        let patch = kube::api::Patch::Merge(&patch);
        objects.patch(name, &Default::default(), &patch).await.ok()
    });
    assert!(accepted.await.is_some());
}

pub(crate) fn condition(object: &DynamicObject, type_: &str) -> Option<(String, String)> {
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

    set_enum("tokenusers.bursar.dev", "role", Ok(FOREIGN_ROLE));
    set_foreign(&users, "ana", "role", FOREIGN_ROLE).await;
    team.user_with("bo", json!({ "role": FOREIGN_ROLE })).await;
    set_enum("tokenusers.bursar.dev", "role", Err(3));

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

#[tokio::test]
async fn an_undecodable_token_is_deleted_as_was_stored() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    let tokens: Api<DynamicObject> = Api::namespaced_with(
        team.client.clone(),
        &team.namespace,
        &ApiResource::erase::<StoredToken>(&()),
    );
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token_with("github", "ana", json!({ "deletionPolicy": "Shred" }))
        .await;
    team.serving("github", 1).await;

    // The policy itself is what this release does not know.
    let kind = "storedtokens.bursar.dev";
    set_enum(kind, "deletionPolicy", Ok("Bury"));
    set_foreign(&tokens, "github", "deletionPolicy", "Bury").await;
    set_enum(kind, "deletionPolicy", Err(2));
    let told = until(LIMIT, PAUSE, async || {
        let token = tokens.get("github").await.unwrap();
        condition(&token, "Ready").filter(|ready| ready.0 == "Undecodable")
    });
    assert!(told.await.is_some());

    tokens
        .delete("github", &DeleteParams::default())
        .await
        .unwrap();
    let gone = until(LIMIT, PAUSE, async || {
        match tokens.get_opt("github").await.unwrap() {
            Some(_) => None,
            None => Some(()),
        }
    });
    assert!(gone.await.is_some(), "it stays");
    let versions = Rows::of(&team.namespace).await.versions().await;
    assert_eq!(versions, [(1, "Shredded".to_owned())]);
}
