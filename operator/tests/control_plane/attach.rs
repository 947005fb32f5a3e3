//! Which pods the vault lets in, as reviewed by the API server.

use bursar_testbed::until;
use bursar_wire::v1alpha1::vault_client::VaultClient;
use bursar_wire::v1alpha1::{AttachRequest, AttachResponse};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::DeleteParams;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::operator::{LIMIT, PAUSE, VAULT_NAME};
use crate::team::Team;

/// A team with a pod `pod` of the service account `app`.
pub(crate) async fn with_pod() -> Team {
    let team = Team::new().await;
    team.user("ana").await;
    team.wait::<bursar_crds::TokenUser>(
        "ana",
        bursar_crds::reasons::ConditionType::Ready,
        "True Reconciled",
    )
    .await;
    team.testbed
        .create_service_account(&team.namespace, "app")
        .await
        .unwrap();
    team.testbed
        .create_pod(&team.namespace, "pod", "app")
        .await
        .unwrap();
    team
}

async fn attach(team: &Team, token: String) -> Result<AttachResponse, Status> {
    let (mut vault, request) = (connect(team).await, request(token));
    vault.attach(request).await.map(tonic::Response::into_inner)
}

/// A connection to the vault, which nobody has attached on yet.
pub(crate) async fn connect(team: &Team) -> VaultClient<Channel> {
    let ca = until(LIMIT, PAUSE, async || {
        let map = team
            .api::<ConfigMap>()
            .get_opt("bursar-ca")
            .await
            .unwrap()?;
        map.data?.remove("ca.crt")
    });
    let tls = bursar_wire::tls::client_config(ca.await.unwrap().as_bytes()).unwrap();
    let vault = team.operator.vault();
    let channel = bursar_wire::tls::connect(&vault, VAULT_NAME, tls)
        .await
        .unwrap();
    VaultClient::new(channel)
}

/// The first message of a broker.
pub(crate) fn request(token: String) -> AttachRequest {
    AttachRequest {
        protocol_min: bursar_wire::PROTOCOL_MIN,
        protocol_max: bursar_wire::PROTOCOL_MAX,
        service_account_token: token,
        previous: None,
    }
}

pub(crate) async fn node_token(team: &Team) -> String {
    team.testbed
        .node_token(&team.namespace, "pod", "bursar-vault")
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pods_own_token_attaches_as_that_pod() {
    let team = with_pod().await;
    let attached = attach(&team, node_token(&team).await).await.unwrap();
    let pod = attached.pod.unwrap();
    assert_eq!(pod.namespace, team.namespace);
    assert_eq!(
        (pod.name.as_str(), pod.service_account_name.as_str()),
        ("pod", "app")
    );
    let known = team.api::<Pod>().get("pod").await.unwrap();
    assert_eq!(Some(pod.uid), known.metadata.uid);
    let issuer = attached.workload_issuer.unwrap();
    assert!(issuer.issuer.starts_with("https://") && issuer.jwks.contains("\"keys\""));
}

#[tokio::test]
async fn a_token_of_another_audience_is_refused() {
    let team = with_pod().await;
    let token = team
        .testbed
        .service_account_token(&team.namespace, "app", "bursar", Some("pod"))
        .await;
    let refused = attach(&team, token.unwrap()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_token_of_a_pod_that_was_deleted_and_made_again_is_refused() {
    let team = with_pod().await;
    let old = node_token(&team).await;
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    team.api::<Pod>().delete("pod", &now).await.unwrap();
    team.testbed
        .create_pod(&team.namespace, "pod", "app")
        .await
        .unwrap();
    // The API server remembers an authenticated token for up to ten seconds.
    let refused = until(LIMIT, PAUSE, async || {
        attach(&team, old.clone()).await.err()
    });
    assert_eq!(refused.await.unwrap().code(), Code::Unauthenticated);
    attach(&team, node_token(&team).await).await.unwrap();
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let team = with_pod().await;
    for token in ["", "planted-token", "a.b.c"] {
        let refused = attach(&team, token.to_owned()).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        assert!(!refused.message().contains("planted"));
    }
}
