//! Deletion always finishes, and its finalizer was there before the first row.

use bursar_crds::names::FINALIZER;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_testbed::until;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, kubectl, operator};
use crate::team::{Team, said, sentence};

/// A team with a token that is served.
async fn served(more: Value) -> Team {
    let team = Team::new().await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token_with("github", "ana", more).await;
    let token = team.serving("github", 1).await;
    assert!(token.finalizers().contains(&FINALIZER.to_owned()));
    team
}

#[tokio::test]
async fn no_row_is_written_before_the_finalizer_is_on() {
    let operator = operator().await;
    // So that the refusals counted below are those of this test.
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    let policy = finalizers_refused(&team).await;
    let refusals = async |kind: &str| {
        let metric =
            format!("bursar_reconciles_total{{kind=\"{kind}\",result=\"KubernetesError\"}}");
        operator.metric(&metric).await
    };
    let kinds = ["TokenUser", "StoredToken", "TokenQuota"];
    let mut before = vec![];
    for kind in kinds {
        before.push(refusals(kind).await);
    }
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    team.token("github", "ana").await;
    team.quota("limit", json!({ "subject": { "each": "User" } }))
        .await;
    let rows = Rows::of(&team.namespace).await;
    let tried = until(LIMIT, PAUSE, async || {
        for (kind, before) in kinds.iter().zip(&before) {
            if refusals(kind).await <= *before {
                return None;
            }
        }
        Some(())
    });
    assert!(tried.await.is_some(), "the operator has tried them all");
    assert!(rows.quotas().await.is_empty());
    assert_eq!((rows.live_users().await, rows.live_tokens().await), (0, 0));
    assert!(
        !team
            .get::<StoredToken>("github")
            .await
            .unwrap()
            .finalizers()
            .iter()
            .any(|f| f == FINALIZER)
    );

    let user = team
        .wait_for("ana", "told of the refusal", |user: &TokenUser| {
            said(user, Ready) == "False VaultUnavailable"
        })
        .await;
    let told = sentence(&user);
    assert!(
        told.contains("does not let bursar-operator write"),
        "{told}"
    );
    assert!(
        told.contains(&format!("finalizer-{}", team.namespace)),
        "{told}"
    );

    kubectl(&["delete", "-f", &policy]);
    team.serving("github", 1).await;
    assert_eq!((rows.live_users().await, rows.live_tokens().await), (1, 1));
    team.wait::<TokenQuota>("limit", Ready, "True Reconciled")
        .await;
    assert_eq!(rows.quotas().await.len(), 1);
}

/// Has the API server refuse our finalizer in this namespace; the file to undo it with.
pub(crate) async fn finalizers_refused(team: &Team) -> String {
    let policy = format!("finalizer-{}", team.namespace);
    let file = team.testbed.folder().join(format!("{policy}.json"));
    std::fs::write(
        &file,
        refuse_finalizer(&policy, &team.namespace).to_string(),
    )
    .unwrap();
    let file = file.to_str().unwrap().to_owned();
    kubectl(&["apply", "-f", &file]);
    // A policy is in effect once the API server's own watch has seen it.
    let in_effect = until(LIMIT, PAUSE, async || {
        let user = json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenUser",
            "metadata": { "name": "probe", "finalizers": [FINALIZER] },
            "spec": {},
        });
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::apply("probe")
        };
        let users = team.api::<TokenUser>();
        users
            .patch("probe", &params, &Patch::Apply(&user))
            .await
            .err()
    });
    assert!(in_effect.await.is_some());
    file
}

#[tokio::test]
async fn rows_end_with_their_object_also_when_somebody_took_the_finalizer_off_before() {
    let team = served(json!({})).await;
    let policy = finalizers_refused(&team).await;
    let none = json!({ "metadata": { "finalizers": null } });
    let (patch, params) = (Patch::Merge(&none), PatchParams::default());
    let tokens = team.api::<StoredToken>();
    tokens.patch("github", &params, &patch).await.unwrap();
    tokens
        .delete("github", &DeleteParams::default())
        .await
        .unwrap();
    let users = team.api::<TokenUser>();
    users.patch("ana", &params, &patch).await.unwrap();
    users.delete("ana", &DeleteParams::default()).await.unwrap();
    assert!(
        team.get::<StoredToken>("github").await.is_none(),
        "nothing held it back"
    );
    let rows = Rows::of(&team.namespace).await;
    let ended = until(LIMIT, PAUSE, async || {
        (rows.live_tokens().await + rows.live_users().await == 0).then_some(())
    });
    assert!(ended.await.is_some(), "its rows live on");
    kubectl(&["delete", "-f", &policy]);
}

fn refuse_finalizer(policy: &str, namespace: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": policy },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": {
                        "matchLabels": { "kubernetes.io/metadata.name": namespace },
                    },
                    "resourceRules": [{
                        "apiGroups": ["bursar.dev"], "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["tokenusers", "storedtokens", "tokenquotas"],
                    }],
                },
                "validations": [{
                    "expression":
                        "!object.metadata.?finalizers.orValue([]).exists(f, f == 'bursar.dev/vault')",
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": policy },
            "spec": { "policyName": policy, "validationActions": ["Deny"] },
        },
    ] })
}

#[tokio::test]
async fn retain_leaves_dead_versions_whose_keys_can_still_be_destroyed() {
    let team = served(json!({ "deletionPolicy": "Retain" })).await;
    team.delete::<StoredToken>("github").await;
    let rows = Rows::of(&team.namespace).await;
    assert_eq!(rows.live_tokens().await, 0);
    assert_eq!(rows.versions().await, [(1, "Dead".to_owned())]);
    assert!(rows.has_shred_time().await);
}

#[tokio::test]
async fn shred_destroys_the_keys_at_once() {
    let team = served(json!({ "deletionPolicy": "Shred" })).await;
    team.delete::<StoredToken>("github").await;
    let rows = Rows::of(&team.namespace).await;
    assert_eq!(rows.versions().await, [(1, "Shredded".to_owned())]);
}

#[tokio::test]
async fn a_deletion_finishes_when_secret_user_and_onboarding_are_gone() {
    let team = served(json!({})).await;
    team.offboard().await;
    team.refused("github", "NamespaceNotOnboarded").await;
    team.remove_secret("github").await;
    team.delete::<TokenUser>("ana").await;
    team.delete::<StoredToken>("github").await;
    let rows = Rows::of(&team.namespace).await;
    assert_eq!((rows.live_users().await, rows.live_tokens().await), (0, 0));
}

#[tokio::test]
async fn what_was_never_stored_has_no_finalizer_and_no_rows() {
    let team = Team::not_onboarded().await;
    team.user("ana").await;
    let user = team
        .wait::<TokenUser>("ana", Ready, "False NamespaceNotOnboarded")
        .await;
    assert!(user.finalizers().is_empty());
    team.delete::<TokenUser>("ana").await;
    assert_eq!(Rows::of(&team.namespace).await.tenants().await, 0);
}

#[tokio::test]
async fn a_finalizer_that_others_set_too_does_not_hold_a_deletion_up() {
    let team = served(json!({})).await;
    // As with a manifest that was copied from the cluster.
    let copied = json!({
        "apiVersion": "bursar.dev/v1alpha1",
        "kind": "StoredToken",
        "metadata": { "name": "github", "finalizers": [FINALIZER] },
    });
    let params = PatchParams::apply("someone-else");
    team.api::<StoredToken>()
        .patch("github", &params, &Patch::Apply(&copied))
        .await
        .unwrap();
    team.delete::<StoredToken>("github").await;
}

#[tokio::test]
async fn finalizers_of_others_stay_and_the_status_says_that_the_versions_are_dead() {
    let team = served(json!({})).await;
    let others = json!({
        "apiVersion": "bursar.dev/v1alpha1",
        "kind": "StoredToken",
        "metadata": { "name": "github", "finalizers": ["example.com/other"] },
    });
    let params = PatchParams::apply("someone-else");
    let tokens = team.api::<StoredToken>();
    tokens
        .patch("github", &params, &Patch::Apply(&others))
        .await
        .unwrap();
    tokens
        .delete("github", &DeleteParams::default())
        .await
        .unwrap();
    let token = team
        .wait_for("github", "without our finalizer", |token: &StoredToken| {
            token.finalizers() == ["example.com/other"]
        })
        .await;
    assert_eq!(said(&token, Usable), "False Deleted");
    assert_eq!(Rows::of(&team.namespace).await.live_tokens().await, 0);
    let none = json!({ "metadata": { "finalizers": null } });
    tokens
        .patch("github", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_finalizer_that_somebody_takes_off_is_put_back() {
    let team = served(json!({})).await;
    let none = json!({ "metadata": { "finalizers": null } });
    let tokens = team.api::<StoredToken>();
    tokens
        .patch("github", &PatchParams::default(), &Patch::Merge(&none))
        .await
        .unwrap();
    team.wait_for("github", "with a finalizer", |token: &StoredToken| {
        token.finalizers().contains(&FINALIZER.to_owned())
    })
    .await;
}
