//! What people see of the kinds: `kubectl get`, short names, field selectors, status.

use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{StoredToken, StoredTokenStatus, TokenUser, conditions, names};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const ANA: &str = "{apiVersion: bursar.dev/v1alpha1, kind: TokenUser, metadata: {name: ana}, \
                   spec: {email: ana@example.com, role: Chief}}";
const BO: &str =
    "{apiVersion: bursar.dev/v1alpha1, kind: TokenUser, metadata: {name: bo}, spec: {}}";

fn token(name: &str, user: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: StoredToken, metadata: {{name: {name}}}, \
         spec: {{userRef: {{name: {user}}}, provider: {name}, source: {{generate: {{}}}}, \
         expirationTime: '2099-01-31T00:00:00Z'}}}}"
    )
}

/// What `kubectl get PLURAL` prints: the headers, and the cells of each row up to the age.
async fn table(cluster: &Cluster, plural: &str) -> (Vec<String>, Vec<Vec<Value>>) {
    let (columns, mut rows) = wide_table(cluster, plural).await;
    // kubectl leaves columns of a lower priority out.
    let shown = columns.iter().filter(|column| column["priority"] == 0);
    let headers: Vec<String> = shown.map(name).collect();
    for row in &mut rows {
        row.truncate(headers.len() - 1);
    }
    (headers, rows)
}

fn name(column: &Value) -> String {
    column["name"].as_str().unwrap().to_owned()
}

/// What `kubectl get PLURAL -o wide` prints: the columns, and the cells of each row.
async fn wide_table(cluster: &Cluster, plural: &str) -> (Vec<Value>, Vec<Vec<Value>>) {
    let url = format!(
        "/apis/bursar.dev/v1alpha1/namespaces/{}/{plural}",
        cluster.namespace
    );
    let request = http::Request::get(url)
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(vec![])
        .unwrap();
    let table: Value = cluster.client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().clone();
    let rows = table["rows"].as_array().unwrap().iter();
    let rows = rows.map(|row| row["cells"].as_array().unwrap().clone());
    (columns, rows.collect())
}

#[tokio::test]
async fn a_fresh_object_never_reads_as_ready() {
    let cluster = Cluster::new().await;
    cluster.apply(&token("github", "ana")).await.unwrap();
    cluster.apply(BO).await.unwrap();
    let (_, tokens) = table(&cluster, "storedtokens").await;
    assert_eq!(
        tokens,
        [[
            json!("github"),
            json!("Unknown"),
            json!("Unknown"),
            json!("Pending"),
            json!("ana"),
            json!("github"),
            Value::Null,
            json!("2099-01-31T00:00:00Z"),
            Value::Null,
        ]]
    );
    let (_, users) = table(&cluster, "tokenusers").await;
    assert_eq!(
        users,
        [[
            json!("bo"),
            json!("Unknown"),
            json!("Unknown"),
            json!("Pending"),
            Value::Null,
            json!("Member"),
            json!(false),
        ]]
    );
}

#[tokio::test]
async fn the_columns_are_those_people_look_for() {
    let cluster = Cluster::new().await;
    let (tokens, _) = table(&cluster, "storedtokens").await;
    assert_eq!(
        tokens.join(" "),
        "Name Ready Usable Reason User Provider Version Expires Last Used Age"
    );
    let (users, _) = table(&cluster, "tokenusers").await;
    assert_eq!(
        users.join(" "),
        "Name Ready Usable Reason Email Role Suspended Age"
    );
}

#[tokio::test]
async fn the_wide_table_ends_with_the_sentence_that_goes_with_the_reason() {
    let cluster = Cluster::new().await;
    cluster.apply(&token("github", "ana")).await.unwrap();
    cluster.apply(BO).await.unwrap();
    for plural in ["storedtokens", "tokenusers"] {
        let (columns, rows) = wide_table(&cluster, plural).await;
        let (age, message) = (columns.len() - 2, columns.len() - 1);
        assert_eq!(name(&columns[age]), "Age");
        assert_eq!(name(&columns[message]), "Message");
        assert_eq!(columns[message]["priority"], 1);
        let sentence = rows[0][message].as_str().unwrap();
        assert!(
            sentence.starts_with("No controller has looked"),
            "{sentence}"
        );
    }
}

#[tokio::test]
async fn the_status_the_operator_applies_replaces_the_default() {
    let cluster = Cluster::new().await;
    cluster.apply(&token("github", "ana")).await.unwrap();
    let tokens =
        Api::<StoredToken>::namespaced(cluster.as_operator().await.client, &cluster.namespace);
    let github = tokens.get("github").await.unwrap();
    let mut status: StoredTokenStatus = github.status.clone().unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let of = github.metadata.generation;
    conditions::set(
        &mut status.conditions,
        ReadyReason::Reconciled,
        "stored",
        of,
        now,
    );
    conditions::set(
        &mut status.conditions,
        UsableReason::Serving,
        "served",
        of,
        now,
    );
    status.observed_generation = of;
    let summary = conditions::summary(&status.conditions);
    status.reason = Some(summary.reason);
    status.message = Some(summary.message);
    status.version = Some(4);
    status.version_time = Some(conditions::whole_seconds(now));
    status.user_uid = Some("8d4f7a0e-0000-4000-8000-000000000000".into());
    let patch = json!({
        "apiVersion": "bursar.dev/v1alpha1",
        "kind": "StoredToken",
        "status": status,
    });
    let written = tokens
        .patch_status(
            "github",
            &PatchParams::apply(names::FIELD_MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .unwrap();
    assert_eq!(written.status.unwrap(), status);
    let (_, rows) = table(&cluster, "storedtokens").await;
    let cells = ["github", "True", "True", "Serving", "ana", "github"].map(|c| json!(c));
    assert_eq!(rows[0][..6], cells);
    assert_eq!(rows[0][6], json!(4));
}

#[tokio::test]
async fn tokens_and_users_can_be_selected_by_field() {
    let cluster = Cluster::new().await;
    cluster.apply(ANA).await.unwrap();
    cluster.apply(BO).await.unwrap();
    cluster.apply(&token("github", "ana")).await.unwrap();
    cluster.apply(&token("slack", "bo")).await.unwrap();
    let tokens = Api::<StoredToken>::namespaced(cluster.client.clone(), &cluster.namespace);
    for (selector, found) in [
        ("spec.userRef.name=ana", "github"),
        ("spec.provider=slack", "slack"),
    ] {
        let list = tokens
            .list(&ListParams::default().fields(selector))
            .await
            .unwrap();
        let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, [found], "{selector}");
    }
    let users = Api::<TokenUser>::namespaced(cluster.client.clone(), &cluster.namespace);
    for (selector, found) in [
        ("spec.email=ana@example.com", "ana"),
        ("spec.role=Member", "bo"),
    ] {
        let list = users
            .list(&ListParams::default().fields(selector))
            .await
            .unwrap();
        let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, [found], "{selector}");
    }
}

#[tokio::test]
async fn kubectl_knows_the_short_names_and_the_category() {
    let cluster = Cluster::new().await;
    let list = cluster
        .client
        .list_api_group_resources("bursar.dev/v1alpha1")
        .await
        .unwrap();
    for (plural, short) in [
        ("storedtokens", "stok"),
        ("tokenquotas", "tquota"),
        ("tokenusers", "tuser"),
    ] {
        let kind = list.resources.iter().find(|r| r.name == plural).unwrap();
        assert_eq!(kind.short_names, Some(vec![short.to_owned()]));
        assert_eq!(kind.categories, Some(vec!["bursar".to_owned()]));
        assert!(kind.namespaced);
    }
}
