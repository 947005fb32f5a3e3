//! The authority's certificate in the ConfigMap `bursar-ca`, where brokers find it.

use std::time::Duration;

use bursar_crds::names::{CA_CONFIG_MAP, FIELD_MANAGER};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::core::Status;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;

use crate::refused;

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

    /// Keeps the ConfigMap of one namespace right for as long as the future is polled. `forbidden`
    /// is told when the API server forbids that.
    pub(crate) async fn keep(&self, namespace: &str, forbidden: &Notify) {
        let mut trouble = Trouble {
            namespace,
            forbidden,
            told: None,
        };
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
                    let status = refused::of_watch(&error);
                    trouble.tell("watch", status, &error);
                    continue;
                }
            };
            trouble.is_over();
            if found.as_ref() != Some(&self.certificate_pem) {
                self.write(&config_maps, &mut trouble).await;
            }
        }
    }

    async fn write(&self, config_maps: &Api<ConfigMap>, trouble: &mut Trouble<'_>) {
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
            trouble.tell("write", refused::of_call(&error), &error);
            tokio::time::sleep(RETRY).await;
        }
        trouble.is_over();
        tracing::info!(
            namespace = trouble.namespace,
            "ConfigMap {CA_CONFIG_MAP} was written"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// What stands in the way in one namespace: logged when it changes, not at each attempt.
struct Trouble<'a> {
    namespace: &'a str,
    forbidden: &'a Notify,
    told: Option<String>,
}

impl Trouble<'_> {
    /// `status` is what the API server said, if it was asked.
    fn tell(&mut self, verb: &str, status: Option<&Status>, error: &dyn std::error::Error) {
        if status.is_some_and(Status::is_forbidden) {
            self.forbidden.notify_one();
        }
        let hint = match status {
            Some(status) if status.code == 422 => {
                "; if somebody marked it immutable, delete it and it is made anew"
            }
            _ => "",
        };
        // The sentence alone: the error has the whole answer, twice.
        let why = status.map_or_else(|| error.to_string(), |status| status.message.clone());
        let line = format!("cannot {verb} ConfigMap {CA_CONFIG_MAP}: {why}{hint}");
        if self.told.as_ref() == Some(&line) {
            tracing::debug!(namespace = self.namespace, "still {line}");
        } else {
            tracing::warn!(namespace = self.namespace, "{line}");
            self.told = Some(line);
        }
    }

    fn is_over(&mut self) {
        self.told = None;
    }
}

fn certificate(map: ConfigMap) -> Option<String> {
    map.data?.remove(KEY)
}
