//! Onboarding, and losing it.

use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenUser};
use serde_json::json;

use crate::database::Rows;
use crate::team::{Team, said, sentence};

#[tokio::test]
async fn onboarding_a_namespace_is_enough() {
    let team = Team::not_onboarded().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.token_with("key", "ana", json!({ "source": { "generate": {} } }))
        .await;
    team.refused("github", "NamespaceNotOnboarded").await;
    team.refused("key", "NamespaceNotOnboarded").await;
    assert_eq!(Rows::of(&team.namespace).await.tenants().await, 0);

    team.onboard().await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;
    team.serving("github", 1).await;
    team.serving("key", 1).await;
}

#[tokio::test]
async fn losing_the_right_is_no_empty_list_and_a_revocation_still_counts() {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    let generate = json!({ "generate": {} });
    team.token_with("key", "ana", json!({ "source": generate }))
        .await;
    team.serving("github", 1).await;
    team.serving("key", 1).await;

    team.offboard().await;
    let token = team.refused("github", "NamespaceNotOnboarded").await;
    assert_eq!(said(&token, Usable), "True Serving");

    // The watch that was open would have told of this.
    team.secret("github", "planted-github-1b").await;
    let revocation = json!({ "throughVersion": 1 });
    team.token_with("github", "ana", json!({ "revocation": revocation }))
        .await;
    let revoked = json!({ "source": generate, "revocation": revocation });
    team.token_with("key", "ana", revoked).await;
    for name in ["github", "key"] {
        let token = team
            .wait::<StoredToken>(name, Usable, "False RevokedBySpec")
            .await;
        assert_eq!(said(&token, Ready), "False NamespaceNotOnboarded");
        assert_eq!(token.status.unwrap().version, Some(1));
    }
    team.user_with("ana", json!({ "suspended": true })).await;
    team.wait::<TokenUser>("ana", Usable, "False UserSuspended")
        .await;

    team.user_with("ana", json!({ "suspended": false })).await;
    team.secret("github", "planted-github-2").await;
    team.onboard().await;
    team.serving("github", 2).await;
    team.serving("key", 2).await;
}

#[tokio::test]
async fn a_secret_that_may_not_be_got_is_no_secret_that_is_missing() {
    let team = Team::not_onboarded().await;
    let rule = |resource: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
    let role = |secrets: &[&str]| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": { "name": "half" },
            "rules": [
                rule("secrets", secrets),
                rule("configmaps", &["create", "get", "list", "watch", "patch"]),
            ],
        })
    };
    team.apply(role(&["list", "watch"])).await;
    team.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": "half" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "half" },
        "subjects": [{
            "kind": "ServiceAccount",
            "name": "bursar-operator",
            "namespace": "bursar-system",
        }],
    }))
    .await;
    team.user("ana").await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;
    team.token("github", "ana").await;
    let token = team.refused("github", "NamespaceNotOnboarded").await;
    assert!(sentence(&token).contains("kubectl create rolebinding"));

    // Nothing tells the operator that the right came: it looks again.
    team.apply(role(&["get", "list", "watch"])).await;
    team.refused("github", "SourceNotFound").await;
}
