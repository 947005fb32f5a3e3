//! The application cannot be the broker: only nodes get tokens of the audience `bursar-vault`.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{Cluster, message, refusal};

async fn with_pod() -> Cluster {
    let cluster = Cluster::new().await;
    let (testbed, namespace) = (&cluster.testbed, &cluster.namespace);
    testbed
        .create_service_account(namespace, "app")
        .await
        .unwrap();
    testbed.create_pod(namespace, "app", "app").await.unwrap();
    cluster
}

/// Asks for a token of the service account `app`, as `kubectl create token` does.
async fn ask(cluster: &Cluster, audiences: &[&str]) -> Result<(), String> {
    let accounts = Api::<ServiceAccount>::namespaced(cluster.client.clone(), &cluster.namespace);
    let request: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": audiences } })).unwrap();
    accounts
        .create_token_request("app", &PostParams::default(), &request)
        .await
        .map(drop)
        .map_err(message)
}

/// `user` in `groups`, who may create tokens of any service account of the namespace.
async fn token_creator(cluster: &Cluster, user: &str, groups: &[&str]) -> Cluster {
    let rules = "[{apiGroups: [''], resources: [serviceaccounts/token], verbs: [create]}]";
    cluster.allow(user, &[], rules).await;
    cluster.as_user(user, groups).await
}

#[tokio::test]
async fn nobody_can_create_a_brokers_token_by_hand() {
    let cluster = with_pod().await;
    let developer = token_creator(&cluster, "dev", &[]).await;
    for person in [&cluster, &developer] {
        let message = refusal(async || ask(person, &["bursar-vault"]).await.err()).await;
        assert!(message.contains("only nodes may create them"), "{message}");
    }
}

#[tokio::test]
async fn the_audience_cannot_be_hidden_among_others() {
    let cluster = with_pod().await;
    refusal(async || ask(&cluster, &["bursar", "bursar-vault"]).await.err()).await;
}

#[tokio::test]
async fn a_name_or_a_group_alone_makes_no_node() {
    let cluster = with_pod().await;
    let named = token_creator(&cluster, "system:node:fake", &[]).await;
    let grouped = token_creator(&cluster, "dev", &["system:nodes"]).await;
    for person in [named, grouped] {
        refusal(async || ask(&person, &["bursar-vault"]).await.err()).await;
    }
}

#[tokio::test]
async fn a_node_gets_it_for_a_pod_of_its_own() {
    let cluster = with_pod().await;
    refusal(async || ask(&cluster, &["bursar-vault"]).await.err()).await;
    let token = cluster
        .testbed
        .node_token(&cluster.namespace, "app", "bursar-vault")
        .await;
    assert_eq!(token.unwrap().split('.').count(), 3);
}

#[tokio::test]
async fn tokens_of_other_audiences_are_no_business_of_ours() {
    let cluster = with_pod().await;
    refusal(async || ask(&cluster, &["bursar-vault"]).await.err()).await;
    ask(&cluster, &["bursar"]).await.unwrap();
    ask(&cluster, &[]).await.unwrap();
}
