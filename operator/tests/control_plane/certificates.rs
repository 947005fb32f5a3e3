//! Bursar's own certificate authority, and where brokers find it.

use bursar_testbed::until;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::DeleteParams;

use crate::operator::{LIMIT, Operator, PAUSE, Running, VAULT_NAME, operator};
use crate::team::Team;

async fn authority(team: &Team) -> String {
    let secrets = Api::<Secret>::namespaced(team.client.clone(), "bursar-system");
    let secret = secrets.get("bursar-ca").await.unwrap();
    String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap()
}

/// The ConfigMap's certificate, once it is there.
async fn published(team: &Team) -> String {
    let found = until(LIMIT, PAUSE, async || {
        let map = team
            .api::<ConfigMap>()
            .get_opt("bursar-ca")
            .await
            .unwrap()?;
        map.data?.remove("ca.crt")
    });
    found.await.unwrap()
}

#[tokio::test]
async fn the_ca_is_published_where_bursar_is_used_and_comes_back_when_deleted() {
    let team = Team::new().await;
    assert!(
        team.api::<ConfigMap>()
            .get_opt("bursar-ca")
            .await
            .unwrap()
            .is_none()
    );
    team.user("ana").await;
    let certificate = published(&team).await;
    assert_eq!(certificate, authority(&team).await);

    // Nobody else may change it, so it can only be deleted.
    team.api::<ConfigMap>()
        .delete("bursar-ca", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(published(&team).await, certificate);

    // What it says is what the vault's certificate is verified by.
    let config = bursar_wire::tls::client_config(certificate.as_bytes()).unwrap();
    bursar_wire::tls::connect(&team.operator.vault(), VAULT_NAME, config)
        .await
        .unwrap();
    let config = bursar_wire::tls::client_config(certificate.as_bytes()).unwrap();
    let other = bursar_wire::tls::connect(&team.operator.vault(), "other.name", config).await;
    assert!(other.is_err());
}

#[tokio::test]
async fn a_second_replica_adopts_the_ca_of_the_first_and_serves_under_it() {
    let operator: &Operator = operator().await;
    let team = Team::new().await;
    team.user("ana").await;
    let certificate = published(&team).await;
    let mut config = operator.config_of_another();
    config.no_controllers = true;
    let (vault, pages) = (
        bursar_testbed::free_port().unwrap(),
        bursar_testbed::free_port().unwrap(),
    );
    config.listen = ([127, 0, 0, 1], vault).into();
    config.metrics_listen = ([127, 0, 0, 1], pages).into();
    let second = Running::start(config, operator.machine().await);
    let ready = until(LIMIT, PAUSE, async || {
        crate::operator::page(pages, "readyz")
            .await
            .filter(|page| page == "ok\n")
    });
    assert!(ready.await.is_some());
    let tls = bursar_wire::tls::client_config(certificate.as_bytes()).unwrap();
    let url = format!("https://127.0.0.1:{vault}");
    bursar_wire::tls::connect(&url, VAULT_NAME, tls)
        .await
        .unwrap();
    second.end().await.unwrap();
    assert_eq!(authority(&team).await, certificate);
}
