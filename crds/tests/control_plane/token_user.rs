//! What the API server admits as a TokenUser.

use crate::cluster::Cluster;

fn user(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: TokenUser, metadata: {{name: '{name}'}}, spec: {spec}}}"
    )
}

fn workloads(count: usize) -> String {
    let names: Vec<String> = (0..count)
        .map(|n| format!("{{serviceAccountName: app-{n}}}"))
        .collect();
    format!("{{workloads: [{}]}}", names.join(", "))
}

#[tokio::test]
async fn an_empty_spec_is_a_member_whom_nobody_may_act_as() {
    let cluster = Cluster::new().await;
    let ana = cluster.apply(&user("ana", "{}")).await.unwrap();
    let spec = serde_json::json!({ "role": "Member", "suspended": false });
    assert_eq!(ana.data["spec"], spec);
}

#[tokio::test]
async fn a_workload_may_act_always_unless_told_otherwise() {
    let cluster = Cluster::new().await;
    let ana = cluster.apply(&user("ana", &workloads(1))).await.unwrap();
    assert_eq!(ana.data["spec"]["workloads"][0]["access"], "Always");
}

#[tokio::test]
async fn sixteen_workloads_are_admitted_and_seventeen_refused() {
    let cluster = Cluster::new().await;
    cluster.apply(&user("ana", &workloads(16))).await.unwrap();
    let message = cluster
        .apply(&user("bo", &workloads(17)))
        .await
        .unwrap_err();
    assert!(
        message.contains("spec.workloads: Too many: 17: must have at most 16 items"),
        "{message}"
    );
}

#[tokio::test]
async fn a_service_account_is_listed_once() {
    let cluster = Cluster::new().await;
    let twice = "{workloads: [{serviceAccountName: app}, {serviceAccountName: app}]}";
    let message = cluster.apply(&user("ana", twice)).await.unwrap_err();
    assert!(message.contains("duplicate"), "{message}");
}

#[tokio::test]
async fn what_the_api_does_not_know_is_refused() {
    let cluster = Cluster::new().await;
    for (spec, field) in [
        ("{mail: ana@example.com}", ".spec.mail"),
        ("{role: Owner}", "spec.role"),
        (
            "{workloads: [{serviceAccountName: app, access: Sometimes}]}",
            "spec.workloads[0].access",
        ),
    ] {
        let message = cluster.apply(&user("ana", spec)).await.unwrap_err();
        assert!(message.contains(field), "{spec}: {message}");
    }
}

#[tokio::test]
async fn a_slip_in_a_single_string_is_answered_with_what_is_allowed() {
    let cluster = Cluster::new().await;
    let email = "An email has one @ and no spaces, for example ana@example.com.";
    for (spec, field, sentence) in [
        ("{email: ana}", "spec.email", email),
        ("{email: a@b@c}", "spec.email", email),
        ("{email: 'ana @example.com'}", "spec.email", email),
        ("{email: \"ana\\u00a0x@example.com\"}", "spec.email", email),
        (
            "{workloads: [{serviceAccountName: App_1}]}",
            "spec.workloads[0].serviceAccountName",
            "The name of a ServiceAccount may have lower case letters, digits, '-' and '.', and \
             begins and ends with a letter or digit, for example app.",
        ),
        (
            "{displayName: ''}",
            "spec.displayName",
            "displayName must not be empty: leave the field out for none.",
        ),
    ] {
        let message = cluster.apply(&user("ana", spec)).await.unwrap_err();
        assert!(message.contains(field), "{spec}: {message}");
        assert!(message.contains(sentence), "{spec}: {message}");
        assert!(!message.contains("should match"), "{spec}: {message}");
    }
}

#[tokio::test]
async fn a_user_cannot_have_a_name_that_is_a_path_of_the_api() {
    let cluster = Cluster::new().await;
    for name in ["access", "status"] {
        let message = cluster.apply(&user(name, "{}")).await.unwrap_err();
        assert!(message.contains("choose another name"), "{message}");
    }
    cluster.apply(&user("accessor", "{}")).await.unwrap();
}
