//! The YAML that people start from is admitted as it stands.

use bursar_crds::{StoredToken, TokenUser, names};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, apply, objects_in};

/// Applies the folder in the order of its files, but to a namespace of the test's own: `team-a` may
/// be in use by someone else on this API server.
async fn apply_quickstart(cluster: &Cluster) {
    for mut object in objects_in("examples/quickstart") {
        match object.namespace() {
            Some(namespace) => {
                assert_eq!(namespace, "team-a");
                object.metadata.namespace = Some(cluster.namespace.clone());
            }
            None => object.metadata.name = Some(cluster.namespace.clone()),
        }
        apply(&cluster.client, &object, false).await.unwrap();
    }
}

#[tokio::test]
async fn the_quickstarts_pod_can_have_both_tokens() {
    let cluster = Cluster::new().await;
    apply_quickstart(&cluster).await;
    for audience in [names::WORKLOAD_AUDIENCE, names::VAULT_AUDIENCE] {
        cluster
            .testbed
            .node_token(&cluster.namespace, "app", audience)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_quickstart_is_admitted_and_reads_as_our_types() {
    let cluster = Cluster::new().await;
    apply_quickstart(&cluster).await;
    let users = Api::<TokenUser>::namespaced(cluster.client.clone(), &cluster.namespace);
    let ana = users.get("ana").await.unwrap();
    assert_eq!(ana.spec.workloads[0].service_account_name, "app");
    let tokens = Api::<StoredToken>::namespaced(cluster.client.clone(), &cluster.namespace);
    let tokens = tokens.list(&ListParams::default()).await.unwrap();
    let found: Vec<String> = tokens.iter().map(ResourceExt::name_any).collect();
    assert_eq!(found, ["github", "slack"]);
}
