//! Users, and what becomes of their tokens.

use bursar_crds::conditions::find;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenUser};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::database::Rows;
use crate::team::{Team, said, sentence};

#[tokio::test]
async fn suspending_a_user_stops_its_tokens_and_lifting_it_brings_them_back() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;

    team.user_with("ana", json!({ "suspended": true })).await;
    let user = team
        .wait::<TokenUser>("ana", Usable, "False UserSuspended")
        .await;
    assert_eq!(said(&user, Ready), "True Reconciled");
    let token = team
        .wait::<StoredToken>("github", Usable, "False UserSuspended")
        .await;
    assert_eq!(said(&token, Ready), "True Reconciled");

    team.user_with("ana", json!({ "suspended": false })).await;
    team.wait::<TokenUser>("ana", Usable, "True Active").await;
    team.serving("github", 1).await;
}

#[tokio::test]
async fn a_token_is_usable_only_while_a_workload_of_its_user_may_read_it() {
    let team = Team::new().await;
    let workloads = |names: &[&str]| {
        let workload = |name: &&str| json!({ "serviceAccountName": name });
        json!({ "workloads": names.iter().map(workload).collect::<Vec<_>>() })
    };
    team.user_with("ana", workloads(&[])).await;
    let user = team
        .wait::<TokenUser>("ana", Usable, "False NoWorkload")
        .await;
    assert_eq!(said(&user, Ready), "True Reconciled");

    let source = json!({ "generate": {} });
    let consumers = json!([{ "serviceAccountName": "app" }, { "serviceAccountName": "job" }]);
    let narrow = json!({ "source": source, "consumers": consumers });
    team.token_with("narrow", "ana", narrow).await;
    team.token_with("wide", "ana", json!({ "source": source }))
        .await;
    let unread = async || {
        for name in ["narrow", "wide"] {
            let token = team
                .wait::<StoredToken>(name, Usable, "False NoReader")
                .await;
            assert_eq!(said(&token, Ready), "True Reconciled");
            assert!(team.event(name, "NoReader").await.contains("TokenUser ana"));
        }
    };
    unread().await;

    // From here on nothing of the tokens' own changes.
    team.user_with("ana", workloads(&["other"])).await;
    team.serving("wide", 1).await;
    let usable = |token: &StoredToken| {
        let conditions = &token.status.as_ref().unwrap().conditions;
        find(conditions, Usable).unwrap().message.clone()
    };
    let token = team.wait_for("narrow", "for other consumers", |token: &StoredToken| {
        usable(token).contains("(app, job)")
    });
    assert_eq!(said(&token.await, Usable), "False NoReader");
    // The user's own reasons stay as they were.
    team.user_with("ana", workloads(&["app"])).await;
    let usable = usable(&team.serving("narrow", 1).await);
    assert!(usable.contains("cannot read it: job."), "{usable}");
    let nobody = Patch::Merge(json!({ "spec": workloads(&[]) }));
    let users = team.api::<TokenUser>();
    users
        .patch("ana", &PatchParams::default(), &nobody)
        .await
        .unwrap();
    unread().await;
}

#[tokio::test]
async fn of_two_users_with_one_email_the_older_keeps_it() {
    let team = Team::new().await;
    team.user_with("bo", json!({ "email": "Ana@example.org" }))
        .await;
    team.wait::<TokenUser>("bo", Ready, "True Reconciled").await;
    // Kubernetes counts ages in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    team.user_with("ana", json!({ "email": "ana@EXAMPLE.org" }))
        .await;
    let newer = team
        .wait::<TokenUser>("ana", Ready, "False EmailTaken")
        .await;
    assert!(
        sentence(&newer).contains("TokenUser bo"),
        "{}",
        sentence(&newer)
    );
    assert_eq!(said(&newer, Usable), "True Active", "the rest is in force");
    let older = team.get::<TokenUser>("bo").await.unwrap();
    assert_eq!(said(&older, Ready), "True Reconciled");

    // Once the older gives it up, the newer has it.
    team.user_with("bo", json!({ "email": "bo@example.org" }))
        .await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;
}

#[tokio::test]
async fn a_deleted_user_gives_its_email_up() {
    let team = Team::new().await;
    team.user_with("bo", json!({ "email": "one@example.org" }))
        .await;
    team.wait::<TokenUser>("bo", Ready, "True Reconciled").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    team.user_with("ana", json!({ "email": "one@example.org" }))
        .await;
    team.wait::<TokenUser>("ana", Ready, "False EmailTaken")
        .await;
    team.delete::<TokenUser>("bo").await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;
}

#[tokio::test]
async fn a_new_user_of_the_same_name_gets_new_versions() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let generate = json!({ "source": { "generate": {} } });
    team.token_with("key", "ana", generate).await;
    team.serving("github", 1).await;
    team.serving("key", 1).await;

    team.delete::<TokenUser>("ana").await;
    let token = team.refused("github", "UserNotFound").await;
    assert_eq!(said(&token, Usable), "False UserNotFound");
    let rows = Rows::of(&team.namespace).await;
    assert!(
        rows.versions()
            .await
            .iter()
            .all(|(_, state)| state == "Dead")
    );

    team.user("ana").await;
    for name in ["github", "key"] {
        let token = team.serving(name, 2).await;
        let user = team.get::<TokenUser>("ana").await.unwrap();
        assert_eq!(token.status.unwrap().user_uid, user.metadata.uid);
    }
}

#[tokio::test]
async fn a_version_of_the_former_user_is_not_served_while_there_is_none_for_the_new_one() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.remove_secret("github").await;
    team.refused("github", "SourceNotFound").await;
    team.delete::<TokenUser>("ana").await;
    team.user("ana").await;
    let token = team
        .wait::<StoredToken>("github", Usable, "False UserReplaced")
        .await;
    assert_eq!(said(&token, Ready), "False SourceNotFound");
}
