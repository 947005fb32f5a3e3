//! The authority's certificate in the ConfigMap `bursar-ca`, where brokers find it.

use std::time::Duration;

use bursar_crds::names::{CA_CONFIG_MAP, FIELD_MANAGER};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;

const KEY: &str = "ca.crt";
/// After each write, so that a fight over the ConfigMap stays a slow one.
const PAUSE: Duration = Duration::from_secs(1);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Writes the certificate into namespaces, and puts it back when somebody changes it.
pub(crate) struct Bundle {
    client: Client,
    certificate_pem: String,
}

impl Bundle {
    /// For this certificate.
    pub(crate) fn new(client: Client, certificate_pem: String) -> Self {
        Self {
            client,
            certificate_pem,
        }
    }

    /// Keeps the ConfigMap of one namespace right for as long as the future is polled.
    pub(crate) async fn keep(&self, namespace: &str) {
        let config_maps = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let only_ours =
            watcher::Config::default().fields(&format!("metadata.name={CA_CONFIG_MAP}"));
        let mut events = watcher(config_maps.clone(), only_ours)
            .default_backoff()
            .boxed();
        let mut listed = None;
        while let Some(event) = events.next().await {
            let found = match event {
                Ok(Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(Event::InitApply(map)) => {
                    listed = certificate(map);
                    continue;
                }
                Ok(Event::InitDone) => listed.take(),
                Ok(Event::Apply(map)) => certificate(map),
                Ok(Event::Delete(_)) => None,
                Err(error) => {
                    tracing::warn!(namespace, %error, "cannot watch ConfigMap {CA_CONFIG_MAP}");
                    continue;
                }
            };
            if found.as_ref() != Some(&self.certificate_pem) {
                self.write(&config_maps, namespace).await;
            }
        }
    }

    async fn write(&self, config_maps: &Api<ConfigMap>, namespace: &str) {
        let config_map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": CA_CONFIG_MAP,
                "labels": { "app.kubernetes.io/managed-by": FIELD_MANAGER },
            },
            "data": { KEY: self.certificate_pem },
        });
        // By force: whoever else set this key has no business there.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        while let Err(error) = config_maps
            .patch(CA_CONFIG_MAP, &params, &Patch::Apply(&config_map))
            .await
        {
            let hint = match &error {
                kube::Error::Api(status) if status.code == 422 => {
                    "; if somebody marked it immutable, delete it and it is made anew"
                }
                _ => "",
            };
            tracing::warn!(
                namespace,
                "cannot write ConfigMap {CA_CONFIG_MAP}: {error}{hint}"
            );
            tokio::time::sleep(RETRY).await;
        }
        tracing::info!(namespace, "ConfigMap {CA_CONFIG_MAP} was written");
        tokio::time::sleep(PAUSE).await;
    }
}

fn certificate(map: ConfigMap) -> Option<String> {
    map.data?.remove(KEY)
}
