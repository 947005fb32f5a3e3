//! The shared testbed's Kubernetes API does what the other crates' tests rest on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use bursar_testbed::shared;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

async fn review(client: &Client, token: String, audience: &str) -> TokenReview {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token),
            audiences: Some(vec![audience.to_owned()]),
        },
        ..TokenReview::default()
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &review)
        .await
        .unwrap()
}

async fn namespace_with_pod() -> (String, String) {
    let testbed = shared();
    let namespace = testbed.namespace("tokens").await.unwrap();
    testbed
        .create_service_account(&namespace, "app")
        .await
        .unwrap();
    let uid = testbed
        .create_pod(&namespace, "app-1", "app")
        .await
        .unwrap();
    (namespace, uid)
}

#[tokio::test]
async fn a_token_bound_to_a_pod_names_that_pod_in_its_review() {
    let testbed = shared();
    let (namespace, uid) = namespace_with_pod().await;
    let token = testbed
        .service_account_token(&namespace, "app", "bursar", Some("app-1"))
        .await
        .unwrap();

    let status = review(&testbed.client().await.unwrap(), token, "bursar")
        .await
        .status
        .unwrap();

    let user = status.user.unwrap();
    assert_eq!(status.authenticated, Some(true));
    assert_eq!(
        user.username,
        Some(format!("system:serviceaccount:{namespace}:app"))
    );
    let extra = user.extra.unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [uid]);
}

#[tokio::test]
async fn a_node_gets_the_brokers_token_of_its_pod() {
    let testbed = shared();
    let (namespace, _) = namespace_with_pod().await;

    let token = testbed
        .node_token(&namespace, "app-1", "bursar-vault")
        .await
        .unwrap();

    let reviewed = review(&testbed.client().await.unwrap(), token, "bursar-vault").await;
    assert_eq!(reviewed.status.unwrap().authenticated, Some(true));
}

#[tokio::test]
async fn a_token_dies_with_its_pod() {
    let testbed = shared();
    let client = testbed.client().await.unwrap();
    let (namespace, uid) = namespace_with_pod().await;
    let token = testbed
        .service_account_token(&namespace, "app", "bursar", Some("app-1"))
        .await
        .unwrap();

    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let now = kube::api::DeleteParams::default().grace_period(0);
    let deleted = pods.delete("app-1", &now).await.unwrap();

    assert_eq!(deleted.left().and_then(|pod| pod.uid()), Some(uid));
    let dead = bursar_testbed::until(
        std::time::Duration::from_secs(30),
        std::time::Duration::from_millis(100),
        async || {
            let status = review(&client, token.clone(), "bursar").await.status?;
            (status.authenticated != Some(true)).then_some(())
        },
    );
    assert!(
        dead.await.is_some(),
        "the token of a deleted pod is still valid"
    );
}

#[tokio::test]
async fn a_service_accounts_kubeconfig_carries_only_its_own_rights() {
    let testbed = shared();
    let (namespace, _) = namespace_with_pod().await;
    let path = testbed
        .kubeconfig_for_service_account(&namespace, "app")
        .await
        .unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();

    let error = Api::<Pod>::namespaced(client, &namespace)
        .list(&ListParams::default())
        .await
        .unwrap_err();

    let kube::Error::Api(status) = error else {
        panic!("not an answer of the API server: {error}");
    };
    assert_eq!(status.code, 403);
    let user = format!("system:serviceaccount:{namespace}:app");
    assert!(status.message.contains(&user), "{}", status.message);
}

#[tokio::test]
async fn people_have_the_rights_of_view_edit_and_admin_as_on_any_cluster() {
    let testbed = shared();
    testbed.aggregate_roles().await.unwrap();
    let roles = Api::<ClusterRole>::all(testbed.client().await.unwrap());
    for (name, verb, resource) in [
        ("view", "get", "pods"),
        ("edit", "get", "pods"),
        ("edit", "create", "secrets"),
        ("admin", "create", "secrets"),
        ("admin", "create", "rolebindings"),
    ] {
        let rules = roles.get(name).await.unwrap().rules.unwrap_or_default();
        let has = |names: &[String], wanted: &str| names.iter().any(|name| name == wanted);
        let allows = rules.iter().any(|rule| {
            has(&rule.verbs, verb) && has(rule.resources.as_deref().unwrap_or_default(), resource)
        });
        assert!(allows, "{name} may not {verb} {resource}");
    }
}
