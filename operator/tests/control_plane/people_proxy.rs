//! The same through the API server's proxy, as people reach the vault of a cluster.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

use bursar_cli::CliError;
use bursar_testbed::until;
use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::Printed;
use crate::operator::{LIMIT, PAUSE};
use crate::people::ABSENT;
use crate::team::Team;

/// An address of this machine that is not loopback, which the API server hands nothing on to. No
/// packet is sent for it, and what is sent to it does not leave the machine.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Fails on a machine that has no address besides loopback.
    socket.connect("198.51.100.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// Carries what arrives at `listener` to a port of 127.0.0.1, until dropped.
async fn relay(listener: TcpListener, port: u16) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        connections.spawn(async move {
            let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
        });
    }
}

/// Puts the vault behind its Service, as a node and its kubelet would.
async fn put_behind_service(team: &Team, address: IpAddr, port: u16) {
    let put = async |object: Value, status: bool| {
        let (api_version, kind) = (&object["apiVersion"], &object["kind"]);
        assert_eq!(api_version, "v1");
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind.as_str().unwrap()));
        let api =
            Api::<DynamicObject>::namespaced_with(team.client.clone(), "bursar-system", &resource);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("test").force();
        let patch = Patch::Apply(&object);
        match status {
            true => api.patch_status(&name, &params, &patch).await.unwrap(),
            false => api.patch(&name, &params, &patch).await.unwrap(),
        };
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "bursar-operator" },
        "spec": {
            "automountServiceAccountToken": false,
            "serviceAccountName": "bursar-operator",
            "securityContext": {
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "operator",
                "image": "operator",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    });
    put(pod, false).await;
    let status = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "bursar-operator" },
        "status": { "podIP": address, "podIPs": [{ "ip": address }] },
    });
    put(status, true).await;
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": "bursar-vault" },
        "subsets": [{
            "addresses": [{
                "ip": address,
                "targetRef": {
                    "kind": "Pod", "namespace": "bursar-system", "name": "bursar-operator",
                },
            }],
            "ports": [{ "name": "people", "port": port }],
        }],
    });
    put(endpoints, false).await;
}

/// Binds a role of a namespace to a service account of the team.
async fn bind(team: &Team, namespace: &str, role: &str, account: &str) {
    let binding = json!({
        "metadata": { "name": format!("{}-{account}", team.namespace) },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role },
        "subjects": [{
            "kind": "ServiceAccount", "name": account, "namespace": team.namespace,
        }],
    });
    let bindings = Api::<RoleBinding>::namespaced(team.client.clone(), namespace);
    let binding = serde_json::from_value(binding).unwrap();
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

/// Somebody with a kubeconfig and no rights.
async fn ordinary_subject(team: &Team, name: &str) -> PathBuf {
    let namespace = &team.namespace;
    let testbed = &team.testbed;
    testbed
        .create_service_account(namespace, name)
        .await
        .unwrap();
    let kubeconfig = testbed.kubeconfig_for_service_account(namespace, name);
    kubeconfig.await.unwrap()
}

/// What somebody may in a namespace, but for the reviews of Kubernetes' own that everybody may.
async fn rules(kubeconfig: &Path, namespace: &str) -> Vec<ResourceRule> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.unwrap()).unwrap();
    let ask = serde_json::from_value(json!({ "spec": { "namespace": namespace } })).unwrap();
    let reviews = Api::<SelfSubjectRulesReview>::all(client);
    let answer = reviews.create(&PostParams::default(), &ask).await.unwrap();
    let mut rules = answer.status.unwrap().resource_rules;
    rules.retain(|rule| {
        let mut groups = rule.api_groups.iter().flatten();
        !groups.all(|group| group.ends_with(".k8s.io"))
    });
    rules
}

async fn behind_the_api_server() -> (Team, tokio::task::JoinHandle<()>) {
    let team = Team::new().await;
    team.user("ana").await;
    team.wait::<bursar_crds::TokenUser>(
        "ana",
        bursar_crds::reasons::ConditionType::Ready,
        "True Reconciled",
    )
    .await;
    team.bind("bursar-auditor", "bursar-auditor").await;
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    put_behind_service(&team, address, port).await;
    let relay = tokio::spawn(relay(listener, team.operator.people_port()));
    (team, relay)
}

// One test, because there is one Service.
#[tokio::test]
async fn people_reach_the_vault_through_the_api_server_with_the_rights_for_it_and_no_others() {
    let (team, relay) = behind_the_api_server().await;
    let administrator = team.testbed.kubeconfig();
    for _ in 0..2 {
        team.bursar_by(administrator, &["audit"]).await.unwrap();
    }
    let json = ["audit", "-o", "json"];
    let printed = team.bursar_by(administrator, &json).await.unwrap();
    let records: Vec<Value> = serde_json::from_str(&printed.out).unwrap();
    let of_audit = |record: &&Value| record["purpose"] == "audit";
    assert_eq!(
        records.iter().filter(of_audit).count(),
        2,
        "{}",
        printed.out
    );
    // What the vault itself says comes through as well.
    let absent = team.bursar_by(administrator, &["why", ABSENT]).await;
    assert_eq!(crate::cli::code(absent), "DenialNotFound");
    // And what the API server says is told as its own.
    let nowhere = ["--bursar-namespace", "absent", "audit"];
    let refused = team.bursar_by(administrator, &nowhere).await;
    let Err(refused @ CliError::Proxy { .. }) = refused else {
        panic!("it was not the API server that refused");
    };
    assert!(
        refused.to_string().contains("--bursar-namespace"),
        "{refused}"
    );

    // The token of the service account is a right of its own, and so is the way to the vault.
    let person = ordinary_subject(&team, "person").await;
    let ask = async || team.bursar_by(&person, &["audit"]).await;
    assert!(matches!(ask().await, Err(CliError::Token { .. })));
    team.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": { "name": "as-auditor" },
        "rules": [{
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": ["bursar-auditor"],
            "verbs": ["create"],
        }],
    }))
    .await;
    bind(&team, &team.namespace, "as-auditor", "person").await;
    let until_known = |outcome: Result<Printed, CliError>| match outcome {
        Err(CliError::Token { .. }) => None,
        other => Some(other),
    };
    let without = until(LIMIT, PAUSE, async || until_known(ask().await)).await;
    let Some(Err(CliError::Proxy { said, advice })) = without else {
        panic!("it was not the API server that refused");
    };
    assert!(said.contains("services/proxy"), "{said}");
    assert!(advice.contains("Role bursar-people"), "{advice}");

    bind(&team, "bursar-system", "bursar-people", "person").await;
    let until_known = |outcome: Result<Printed, CliError>| match outcome {
        Err(CliError::Proxy { .. }) => None,
        other => Some(other),
    };
    let with = until(LIMIT, PAUSE, async || until_known(ask().await)).await;
    let with = with.expect("the role gives no way").unwrap();
    assert!(with.success, "{}", with.out);
    let way = json!([{
        "apiGroups": [""],
        "resources": ["services/proxy"],
        "resourceNames": ["https:bursar-vault:people"],
        "verbs": ["get", "create"],
    }]);
    assert_eq!(json!(rules(&person, "bursar-system").await), way);
    // To read is not to revoke: that token this person does not get.
    let revoke = team.bursar_by(&person, &["revoke", "github"]).await;
    assert!(matches!(revoke, Err(CliError::Token { .. })));
    relay.abort();
}
