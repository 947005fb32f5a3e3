//! What the operator may do is what the golden file says: no more, no less.

use std::collections::BTreeSet;

use bursar_crds::{StoredToken, TokenUser, names};
use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use kube::api::PostParams;
use kube::{Api, Resource};
use serde_json::json;

use crate::cluster::{Cluster, objects_in, repository};

const GOLDEN: &str = "crds/tests/golden/operator-rights.txt";

/// What `who` may do in a namespace, one line per rule, as `kubectl auth can-i --list` shows it.
async fn rules(who: &Cluster, namespace: &str) -> BTreeSet<String> {
    let reviews = Api::<SelfSubjectRulesReview>::all(who.client.clone());
    let ask = serde_json::from_value(json!({ "spec": { "namespace": namespace } })).unwrap();
    let answer = reviews.create(&PostParams::default(), &ask).await.unwrap();
    let status = answer.status.unwrap();
    assert!(!status.incomplete);
    let list = |words: Option<Vec<String>>| words.unwrap_or_default().join(",");
    let resources = status.resource_rules.into_iter().map(|rule| {
        let (groups, names) = (list(rule.api_groups), list(rule.resource_names));
        let resources = list(rule.resources);
        format!(
            "{} {resources} [group: {groups}] [names: {names}]",
            rule.verbs.join(",")
        )
    });
    let paths = status
        .non_resource_rules
        .into_iter()
        .map(|rule| format!("{} {}", rule.verbs.join(","), list(rule.non_resource_urls)));
    resources.chain(paths).collect()
}

#[tokio::test]
async fn the_operators_rights_are_those_of_the_golden_file() {
    let cluster = Cluster::new().await;
    let onboard = objects_in("examples/quickstart");
    let onboard = onboard
        .iter()
        .find(|o| o.types.as_ref().unwrap().kind == "RoleBinding")
        .unwrap();
    let other = cluster.testbed.namespace("other").await.unwrap();
    cluster
        .allowed(&serde_json::to_string(onboard).unwrap())
        .await;
    let operator = cluster.as_operator().await;
    // Every account may do these: they are Kubernetes' own and differ between its versions.
    cluster
        .testbed
        .create_service_account(&cluster.namespace, "nobody")
        .await
        .unwrap();
    let anyone = format!("system:serviceaccount:{}:nobody", cluster.namespace);
    let groups = ["system:authenticated", "system:serviceaccounts"];
    let mut known = rules(&cluster.as_user(&anyone, &groups).await, &other).await;
    let mut found = String::new();
    for (title, namespace) in [
        ("everywhere", other.as_str()),
        ("besides, in an onboarded namespace", &cluster.namespace),
        ("besides, in bursar-system", names::OPERATOR_NAMESPACE),
    ] {
        found += &format!("# {title}\n");
        for rule in rules(&operator, namespace).await.difference(&known) {
            found += &format!("{rule}\n");
        }
        if namespace == other {
            known.append(&mut rules(&operator, namespace).await);
        }
    }
    let golden = std::fs::read_to_string(repository(GOLDEN)).unwrap();
    assert!(
        found == golden,
        "{GOLDEN} says\n{golden}\nbut the operator may\n{found}"
    );
}

#[test]
fn the_manifests_and_the_constants_say_the_same_names() {
    let objects = [
        objects_in("operator/manifests"),
        objects_in("examples/quickstart"),
    ]
    .concat();
    let yaml = serde_json::to_string(&objects).unwrap();
    let operator = format!(
        "system:serviceaccount:{}:{}",
        names::OPERATOR_NAMESPACE,
        names::OPERATOR_SERVICE_ACCOUNT
    );
    for name in [
        &operator,
        names::SOURCE_LABEL,
        names::CA_SECRET,
        names::CA_CONFIG_MAP,
        names::ONBOARDED_CLUSTER_ROLE,
        names::VAULT_AUDIENCE,
        names::WORKLOAD_AUDIENCE,
        names::VERB_GRANT_ACCESS,
        names::VERB_GRANT_ROLE,
    ] {
        assert!(yaml.contains(name), "{name} is in no manifest");
    }
    assert_eq!(TokenUser::group(&()), names::GROUP);
    assert_eq!(StoredToken::version(&()), names::VERSION);
}

#[test]
fn people_get_their_rights_by_aggregation() {
    let roles = objects_in("operator/manifests");
    for role in ["view", "edit", "admin"] {
        let name = format!("bursar-{role}");
        let ours = roles
            .iter()
            .find(|o| o.metadata.name.as_ref() == Some(&name))
            .unwrap();
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        assert_eq!(ours.metadata.labels.as_ref().unwrap()[&label], "true");
    }
}
