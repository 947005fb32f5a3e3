//! The same through the API server's proxy, as people reach the vault of a cluster.

use std::net::{IpAddr, UdpSocket};

use bursar_cli::CliError;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

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

#[tokio::test]
async fn people_reach_the_vault_through_the_api_server() {
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

    for _ in 0..2 {
        team.bursar_by(&[], &["audit"]).await.unwrap();
    }
    let printed = team.bursar_by(&[], &["audit", "-o", "json"]).await.unwrap();
    let records: Vec<Value> = serde_json::from_str(&printed.out).unwrap();
    let of_audit = |record: &&Value| record["purpose"] == "audit";
    assert_eq!(
        records.iter().filter(of_audit).count(),
        2,
        "{}",
        printed.out
    );
    // What the vault itself says comes through as well.
    let absent = team.bursar_by(&[], &["why", "d-1"]).await;
    assert_eq!(crate::cli::code(absent), "DenialNotFound");
    // And what the API server says is told as its own.
    let nowhere = ["--bursar-namespace", "absent"];
    let refused = team.bursar_by(&nowhere, &["audit"]).await;
    assert!(matches!(refused, Err(CliError::Proxy(_))));
    relay.abort();
}
