//! The CA that brokers trust is only the operator's to write.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use crate::cluster::{Cluster, message, refusal};

const CA: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: bursar-ca}, data: {ca.crt: first}}";
const OTHER: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: mine}, data: {ca.crt: first}}";

/// The operator in a namespace that is onboarded.
async fn operator(cluster: &Cluster) -> Cluster {
    cluster
        .apply(
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: bursar}, \
             roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: bursar-onboarded}, \
             subjects: [{kind: ServiceAccount, name: bursar-operator, namespace: bursar-system}]}",
        )
        .await
        .unwrap();
    cluster.as_operator().await
}

#[tokio::test]
async fn not_even_the_clusters_admin_can_plant_a_ca() {
    let cluster = Cluster::new().await;
    let message_of_apply = cluster.refused(CA).await;
    assert!(
        message_of_apply.contains("only the account bursar-operator"),
        "{message_of_apply}"
    );
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.namespace);
    let map: ConfigMap = serde_saphyr::from_str(CA).unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    refusal(async || maps.create(&params, &map).await.err().map(message)).await;
}

#[tokio::test]
async fn nobody_else_can_change_the_operators_ca() {
    let cluster = Cluster::new().await;
    operator(&cluster).await.allowed(CA).await;
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.namespace);
    cluster
        .change_refused(&CA.replace("ca.crt: first", "ca.crt: rogue"))
        .await;
    let mut map = maps.get("bursar-ca").await.unwrap();
    map.data = None;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    refusal(async || {
        maps.replace("bursar-ca", &params, &map)
            .await
            .err()
            .map(message)
    })
    .await;
}

#[tokio::test]
async fn the_operator_can_repair_it_and_anyone_with_the_right_can_delete_it() {
    let cluster = Cluster::new().await;
    let operator = operator(&cluster).await;
    operator.allowed(CA).await;
    operator
        .allowed(&CA.replace("ca.crt: first", "ca.crt: renewed"))
        .await;
    let maps = Api::<ConfigMap>::namespaced(cluster.client.clone(), &cluster.namespace);
    maps.delete("bursar-ca", &DeleteParams::default())
        .await
        .unwrap();
    operator.allowed(CA).await;
}

#[tokio::test]
async fn other_config_maps_are_no_business_of_ours() {
    let cluster = Cluster::new().await;
    cluster.refused(CA).await;
    cluster.apply(OTHER).await.unwrap();
}
