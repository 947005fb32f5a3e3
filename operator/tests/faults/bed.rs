//! What is run: an API server, a Postgres, two vault replicas and the brokers of some pods.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar_crds::StoredToken;
use bursar_crds::conditions::find;
use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_testbed::{Database, Dice, Process, Spec, Testbed, free_port, until};
use bursar_vault::{Clock as _, SystemClock};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::journal::Shared;
use crate::limits::Limits;
use crate::pods::{Pod, can_shift_clocks};
use crate::{LIMIT, PAUSE};

/// The name in the vault's certificate.
pub(crate) const VAULT_NAME: &str = "bursar-vault.bursar-system.svc";
/// The tokens and their users.
pub(crate) const TOKENS: [(&str, &str); 3] = [("github", "ana"), ("slack", "ana"), ("jira", "bo")];
/// What the vault's other keys are wrapped with.
pub(crate) const ROOT_KEY: [u8; 32] = [7; 32];
const PODS: u64 = 4;

/// All of it.
pub(crate) struct Bed {
    pub(crate) seed: u64,
    // Dropped in this order: brokers say goodbye to the vault.
    pub(crate) pods: Vec<Pod>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) database: Database,
    pub(crate) journal: Arc<Shared>,
    pub(crate) limits: Limits,
    pub(crate) testbed: Testbed,
    cluster: Cluster,
    rotations: u32,
}

/// The namespace of the test.
struct Cluster {
    client: Client,
    namespace: String,
}

/// A process of the vault.
pub(crate) struct Replica {
    process: Process,
    address: SocketAddr,
    pages: u16,
}

/// What every replica is given.
struct Means {
    kubeconfig: PathBuf,
    database: String,
    root_keys: PathBuf,
    log: PathBuf,
}

impl Bed {
    /// Starts everything, and waits until the first access is possible.
    pub(crate) async fn start(seed: u64) -> Self {
        let testbed = Testbed::start().await.unwrap();
        let handle = testbed.handle();
        handle.install_bursar().await.unwrap();
        let database = handle.database("faults").await.unwrap();
        let means = means(&testbed, &database).await;
        let replicas = vec![Replica::start(&means, true), Replica::start(&means, false)];
        let cluster = Cluster {
            client: handle.client().await.unwrap(),
            namespace: handle.namespace("faults").await.unwrap(),
        };
        cluster.fill(&testbed).await;
        let limits = Limits::new(cluster.api()).await;
        let ca = cluster.authority().await;
        let mut dice = Dice::new(seed);
        let mut pods = Vec::new();
        for number in 0..PODS {
            let folder = handle.folder().join(format!("pod-{number}"));
            let dice = Dice::new(dice.below(usize::MAX) as u64);
            pods.push(cluster.pod(&testbed, number, folder, &ca, dice).await);
        }
        if can_shift_clocks() {
            pods[1].set_ahead(Duration::from_secs(100_000));
            pods[2].set_ahead(Duration::from_secs(7));
        } else {
            println!("faults: no time namespaces here: all brokers have the machine's clocks");
        }
        let mut bed = Self {
            seed,
            pods,
            replicas,
            database,
            journal: Arc::default(),
            limits,
            cluster,
            rotations: 1,
            testbed,
        };
        bed.lead();
        bed.until_replicas_ready().await;
        for token in TOKENS {
            bed.cluster.until_serving(token.0).await;
        }
        for pod in &mut bed.pods {
            pod.start().await;
        }
        for pod in &bed.pods {
            pod.until_ready().await;
        }
        bed
    }

    /// As the vault's Service does: to whichever replica there is, in turn.
    fn lead(&self) {
        let addresses: Vec<_> = self.replicas.iter().map(|it| it.address).collect();
        for pod in &self.pods {
            pod.vault.lead_to(addresses.clone());
        }
    }

    pub(crate) async fn until_replicas_ready(&self) {
        for replica in &self.replicas {
            let ready = until(LIMIT, PAUSE, async || {
                is_ready(replica.pages).await.then_some(())
            });
            assert!(ready.await.is_some(), "a replica is not ready");
        }
    }

    /// SIGKILL, and another process in its place.
    pub(crate) async fn kill_replica(&mut self, place: usize) {
        let means = means(&self.testbed, &self.database).await;
        self.replicas[place].process.kill();
        self.replicas[place] = Replica::start(&means, place == 0);
        self.lead();
    }

    /// A new value in the Secret of a token.
    pub(crate) async fn rotate(&mut self) {
        self.rotations += 1;
        self.cluster.secret("github", self.rotations).await;
    }

    /// Ends all brokers in order.
    pub(crate) async fn end_brokers(&mut self) {
        self.until_replicas_ready().await;
        for pod in &mut self.pods {
            pod.end().await;
        }
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        let log = std::fs::read_to_string(self.testbed.handle().folder().join("postgres.log"));
        let log = log.unwrap();
        // I9, and nothing that is written where nobody commits it.
        for trouble in [
            "deadlock detected",
            "PANIC",
            "there is already a transaction in progress",
        ] {
            assert!(!log.contains(trouble), "Postgres' log has: {trouble}");
        }
        drop(self);
    }
}

impl Replica {
    /// Starts it on the thread of the caller, and does not wait for it.
    fn start(means: &Means, has_controllers: bool) -> Self {
        let (port, pages) = (free_port().unwrap(), free_port().unwrap());
        let program = env!("CARGO_BIN_EXE_bursar-operator");
        let mut spec = Spec::new("bursar-operator", program, &means.log)
            .env("KUBECONFIG", &means.kubeconfig)
            .env("BURSAR_DATABASE_URL", &means.database)
            .env("BURSAR_ROOT_KEY_DIR", &means.root_keys)
            .args(["--vault-name", VAULT_NAME, "--lease-seconds=15"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg("--people-listen=127.0.0.1:0")
            .arg(format!("--metrics-listen=127.0.0.1:{pages}"));
        if !has_controllers {
            spec = spec.arg("--no-controllers");
        }
        Self {
            process: spec.spawn().unwrap(),
            address: ([127, 0, 0, 1], port).into(),
            pages,
        }
    }
}

impl Cluster {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn apply(&self, object: Value) {
        let version = object["apiVersion"].as_str().unwrap().to_owned();
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&kind);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let api =
            Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let params = PatchParams::apply("test").force();
        api.patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    /// Onboards the namespace; users, tokens and their Secrets.
    async fn fill(&self, testbed: &Testbed) {
        let handle = testbed.handle();
        handle.onboard(&self.namespace).await.unwrap();
        handle
            .create_service_account(&self.namespace, "app")
            .await
            .unwrap();
        for user in ["ana", "bo"] {
            self.apply(json!({
                "apiVersion": "bursar.dev/v1alpha1",
                "kind": "TokenUser",
                "metadata": { "name": user },
                "spec": { "workloads": [{ "serviceAccountName": "app" }] },
            }))
            .await;
        }
        for (token, user) in TOKENS {
            self.secret(token, 1).await;
            self.apply(json!({
                "apiVersion": "bursar.dev/v1alpha1",
                "kind": "StoredToken",
                "metadata": { "name": token },
                "spec": {
                    "userRef": { "name": user },
                    "provider": "example",
                    "source": { "secretKeyRef": { "name": token, "key": "token" } },
                },
            }))
            .await;
        }
    }

    async fn secret(&self, token: &str, number: u32) {
        let value = ByteString(format!("value {number} of {token}").into_bytes());
        self.apply(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": token, "labels": { "bursar.dev/source": "true" } },
            "type": "Opaque",
            "data": { "token": value },
        }))
        .await;
    }

    async fn until_serving(&self, token: &str) {
        let tokens = self.api::<StoredToken>();
        let serving = until(LIMIT, PAUSE, async || {
            let token = tokens.get(token).await.ok()?;
            let conditions = token.status?.conditions;
            [Ready, Usable]
                .iter()
                .all(|kind| find(&conditions, *kind).is_some_and(|it| it.status == "True"))
                .then_some(())
        });
        assert!(serving.await.is_some(), "{token} is not served");
    }

    /// Bursar's CA, as it is mounted into pods.
    async fn authority(&self) -> String {
        let maps = self.api::<ConfigMap>();
        let found = until(LIMIT, PAUSE, async || {
            maps.get("bursar-ca").await.ok()?.data?.remove("ca.crt")
        });
        found.await.unwrap()
    }

    async fn pod(
        &self,
        testbed: &Testbed,
        number: u64,
        folder: PathBuf,
        ca: &str,
        dice: Dice,
    ) -> Pod {
        let (name, handle) = (format!("pod-{number}"), testbed.handle());
        std::fs::create_dir(&folder).unwrap();
        handle
            .create_pod(&self.namespace, &name, "app")
            .await
            .unwrap();
        let token = |audience| handle.node_token(&self.namespace, &name, audience);
        let (jwt, vault_token) = (token("bursar").await, token("bursar-vault").await);
        std::fs::write(folder.join("ca.crt"), ca).unwrap();
        std::fs::write(folder.join("vault-token"), vault_token.unwrap()).unwrap();
        Pod::new(name, folder, jwt.unwrap().trim().to_owned(), dice).await
    }
}

async fn means(testbed: &Testbed, database: &Database) -> Means {
    let handle = testbed.handle();
    let root_keys = handle.folder().join("root-keys");
    if !root_keys.is_dir() {
        std::fs::create_dir(&root_keys).unwrap();
        std::fs::write(root_keys.join("1"), ROOT_KEY).unwrap();
    }
    let kubeconfig = handle.kubeconfig_for_service_account("bursar-system", "bursar-operator");
    Means {
        kubeconfig: kubeconfig.await.unwrap(),
        database: database.runtime_url.clone(),
        root_keys,
        log: handle.folder().join("operator.log"),
    }
}

/// Whether `/readyz` on this port answers that it is.
pub(crate) async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.starts_with("HTTP/1.1 200 "))
    };
    asked.await.unwrap_or_default()
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> f64 {
    SystemClock.now().as_millisecond() as f64 / 1_000.0
}
