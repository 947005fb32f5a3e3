//! Who may use a token, and who may act for others, is changed only by those who hold the verbs.

use bursar_testbed::until;
use kube::ResourceExt;
use kube::api::PostParams;

use crate::cluster::{Cluster, LIMIT, PAUSE, api, message, refusal};

/// What the role `edit` amounts to on a cluster whose controllers aggregate it.
const EDIT: &[&str] = &["bursar-view", "bursar-edit", "system:aggregate-to-edit"];
/// The same for `admin`.
const ADMIN: &[&str] = &[
    "bursar-view",
    "bursar-edit",
    "system:aggregate-to-edit",
    "bursar-admin",
];

const GRANT_ACCESS_USER: &str = "you lack the verb grant-access on tokenusers.bursar.dev";
const GRANT_ACCESS_TOKEN: &str = "you lack the verb grant-access on storedtokens.bursar.dev";

fn user(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: TokenUser, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
    )
}

fn token(name: &str, rest: &str) -> String {
    let spec = "userRef: {name: ana}, provider: github, source: {generate: {}}";
    change_of_token(name, &format!("{spec}, {rest}"))
}

fn change_of_token(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: StoredToken, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
    )
}

async fn person(cluster: &Cluster, name: &str, roles: &[&str]) -> Cluster {
    cluster.allow(name, roles, "[]").await;
    cluster.as_user(name, &[]).await
}

#[tokio::test]
async fn an_editor_who_adds_his_own_account_to_someones_user_is_refused() {
    let cluster = Cluster::new().await;
    let ana = user("ana", "workloads: [{serviceAccountName: app}]");
    cluster.apply(&ana).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    let added = "workloads: [{serviceAccountName: app}, {serviceAccountName: eds}]";
    let message = editor.change_refused(&user("ana", added)).await;
    let right = "you lack the verb grant-access on tokenusers.bursar.dev \"ana\"";
    assert!(message.contains(right), "{message}");
    assert!(message.contains(&cluster.namespace), "{message}");
}

#[tokio::test]
async fn every_change_of_workloads_needs_grant_access() {
    let cluster = Cluster::new().await;
    let ana = user("ana", "workloads: [{serviceAccountName: app}]");
    cluster.apply(&ana).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    for workloads in ["[{serviceAccountName: eds}]", "[]", "null"] {
        let changed = user("ana", &format!("workloads: {workloads}"));
        let message = editor.change_refused(&changed).await;
        assert!(message.contains(GRANT_ACCESS_USER), "{message}");
    }
}

#[tokio::test]
async fn a_new_user_with_workloads_needs_grant_access() {
    let cluster = Cluster::new().await;
    let editor = person(&cluster, "ed", EDIT).await;
    let new = user("new", "workloads: [{serviceAccountName: eds}]");
    let message = editor.refused(&new).await;
    assert!(message.contains(GRANT_ACCESS_USER), "{message}");
}

#[tokio::test]
async fn an_editor_may_change_everything_else_about_a_user() {
    let cluster = Cluster::new().await;
    let ana = user("ana", "workloads: [{serviceAccountName: app}]");
    cluster.apply(&ana).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    let changed = user("ana", "displayName: Ana, suspended: true");
    editor.change_allowed(&changed).await;
    let new = user("new", "email: new@example.com");
    editor.allowed(&new).await;
}

#[tokio::test]
async fn an_editor_may_suspend_a_user_and_not_lift_it() {
    let cluster = Cluster::new().await;
    let ana = user("ana", "workloads: [{serviceAccountName: app}]");
    cluster.apply(&ana).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    editor.change_allowed(&user("ana", "suspended: true")).await;
    for lifted in ["suspended: false", "suspended: null"] {
        let message = editor.change_refused(&user("ana", lifted)).await;
        assert!(message.contains(GRANT_ACCESS_USER), "{message}");
        assert!(message.contains("spec.suspended"), "{message}");
    }
    // What a suspension has nothing to do with stays open.
    let renamed = user("ana", "displayName: Ana, suspended: true");
    editor.change_allowed(&renamed).await;
    let admin = person(&cluster, "adm", ADMIN).await;
    admin.change_allowed(&user("ana", "suspended: false")).await;
}

#[tokio::test]
async fn every_change_of_consumers_needs_grant_access() {
    let cluster = Cluster::new().await;
    let narrowed = "consumers: [{serviceAccountName: app, purposes: [sync]}]";
    cluster.apply(&token("github", narrowed)).await.unwrap();
    cluster.apply(&token("open", "")).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    for (name, consumers) in [
        (
            "github",
            "[{serviceAccountName: app, purposes: [sync, other]}]",
        ),
        ("github", "[{serviceAccountName: app}]"),
        ("github", "[{serviceAccountName: eds}]"),
        // Without its consumers the token is open to all of the user's workloads.
        ("github", "null"),
        ("open", "[{serviceAccountName: eds}]"),
    ] {
        let changed = change_of_token(name, &format!("consumers: {consumers}"));
        let message = editor.change_refused(&changed).await;
        assert!(
            message.contains(GRANT_ACCESS_TOKEN),
            "{consumers}: {message}"
        );
    }
}

#[tokio::test]
async fn a_new_token_with_consumers_needs_grant_access() {
    let cluster = Cluster::new().await;
    let editor = person(&cluster, "ed", EDIT).await;
    let new = token("github", "consumers: [{serviceAccountName: eds}]");
    let message = editor.refused(&new).await;
    assert!(message.contains(GRANT_ACCESS_TOKEN), "{message}");
}

#[tokio::test]
async fn an_editor_may_change_everything_else_about_a_token() {
    let cluster = Cluster::new().await;
    let narrowed = token("github", "consumers: [{serviceAccountName: app}]");
    cluster.apply(&narrowed).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    let revoked = change_of_token("github", "revocation: {throughVersion: 1}");
    editor.change_allowed(&revoked).await;
    editor.allowed(&token("new", "")).await;
}

#[tokio::test]
async fn any_role_but_member_needs_grant_role() {
    let cluster = Cluster::new().await;
    cluster.apply(&user("ana", "role: Member")).await.unwrap();
    cluster.apply(&user("bo", "role: Chief")).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    for (name, role) in [("ana", "Chief"), ("ana", "Admin"), ("bo", "Admin")] {
        let changed = user(name, &format!("role: {role}"));
        let message = editor.change_refused(&changed).await;
        let right = format!("you lack the verb grant-role on tokenusers.bursar.dev \"{name}\"");
        assert!(message.contains(&right), "{message}");
    }
    let message = editor.refused(&user("new", "role: Chief")).await;
    assert!(message.contains("grant-role"), "{message}");
}

#[tokio::test]
async fn an_editor_may_leave_a_role_or_take_it_away() {
    let cluster = Cluster::new().await;
    cluster.apply(&user("bo", "role: Chief")).await.unwrap();
    let editor = person(&cluster, "ed", EDIT).await;
    editor.change_allowed(&user("bo", "displayName: Bo")).await;
    editor.change_allowed(&user("bo", "role: Member")).await;
}

#[tokio::test]
async fn an_admin_of_the_namespace_may_do_all_of_it() {
    let cluster = Cluster::new().await;
    let admin = person(&cluster, "adm", ADMIN).await;
    let ana = user("ana", "role: Chief, workloads: [{serviceAccountName: app}]");
    admin.allowed(&ana).await;
    admin
        .change_allowed(&user("ana", "role: Admin, workloads: []"))
        .await;
    let narrowed = token("github", "consumers: [{serviceAccountName: app}]");
    admin.allowed(&narrowed).await;
    admin
        .change_allowed(&change_of_token("github", "consumers: null"))
        .await;
}

#[tokio::test]
async fn an_admin_of_the_namespace_may_say_who_audits_and_who_revokes_in_it() {
    let cluster = Cluster::new().await;
    // What Kubernetes itself adds to the role `admin`: to bind roles, but none that allows more
    // than one may do.
    let binder = person(&cluster, "bi", &["system:aggregate-to-admin"]).await;
    let admin = person(
        &cluster,
        "adm",
        &["system:aggregate-to-admin", "bursar-admin"],
    )
    .await;
    for role in ["bursar-auditor", "bursar-revoker"] {
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, \
             metadata: {{name: {role}}}, subjects: [{{kind: ServiceAccount, name: {role}}}], \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}}}"
        );
        let refused = until(LIMIT, PAUSE, async || {
            let refused = binder.apply(&binding).await.err();
            refused.filter(|message| message.contains("permissions not currently held"))
        });
        assert!(
            refused.await.is_some(),
            "anyone who binds roles may bind {role}"
        );
        admin.allowed(&binding).await;
    }
}

#[tokio::test]
async fn a_right_on_one_object_is_no_right_on_another() {
    let cluster = Cluster::new().await;
    let rules = "[{apiGroups: [bursar.dev], resources: [tokenusers], resourceNames: [ana], \
                  verbs: [grant-access, grant-role]}]";
    cluster.allow("ed", EDIT, rules).await;
    let editor = cluster.as_user("ed", &[]).await;
    let spec = "role: Chief, workloads: [{serviceAccountName: app}]";
    editor.allowed(&user("ana", spec)).await;
    editor.refused(&user("bo", spec)).await;
}

#[tokio::test]
async fn a_name_that_the_api_server_makes_up_changes_nothing() {
    let cluster = Cluster::new().await;
    let editor = person(&cluster, "ed", EDIT).await;
    let mut object = editor.object(&user("x", "workloads: [{serviceAccountName: eds}]"));
    object.metadata.name = None;
    object.metadata.generate_name = Some("made-up-".into());
    let users = api(&editor.client, &object);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let message = refusal(async || users.create(&params, &object).await.err().map(message)).await;
    assert!(message.contains(GRANT_ACCESS_USER), "{message}");
}

#[tokio::test]
async fn the_operator_may_set_finalizers_and_widen_nothing() {
    let cluster = Cluster::new().await;
    let ana = user("ana", "role: Chief, workloads: [{serviceAccountName: app}]");
    cluster.apply(&ana).await.unwrap();
    let operator = cluster.as_operator().await;
    let finalizer = "{apiVersion: bursar.dev/v1alpha1, kind: TokenUser, \
                      metadata: {name: ana, finalizers: [bursar.dev/vault]}}";
    let ana = operator.change_allowed(finalizer).await;
    assert_eq!(ana.finalizers(), ["bursar.dev/vault"]);
    cluster.apply(&user("bo", "suspended: true")).await.unwrap();
    operator
        .change_refused(&user("bo", "suspended: false"))
        .await;
    for widened in ["workloads: [{serviceAccountName: eds}]", "role: Admin"] {
        operator.change_refused(&user("ana", widened)).await;
    }
}
