//! The broker that ships, as a process, with the files that a kubelet would give it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_crds::names::{CA_CONFIG_MAP, VAULT_AUDIENCE, WORKLOAD_AUDIENCE};
use bursar_testbed::{Handle, HandleError, PortsError, Process, ProcessError, Spec, free_port};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use tokio::time::Instant;

use crate::team::{SERVICE_ACCOUNT, USER};
use crate::workload::Connection;

const READY_LIMIT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(1);
const CA_LIMIT: Duration = Duration::from_secs(60);
const CA_POLL: Duration = Duration::from_millis(100);
const PROGRAM: &str = "bursar-broker";

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file cannot be written, or this program does not know where it is itself.
    #[error("cannot prepare the broker's files: {0}")]
    File(#[from] io::Error),
    /// The pod or its tokens are missing.
    #[error(transparent)]
    Pod(#[from] HandleError),
    /// The operator has not put its CA into the namespace.
    #[error("namespace {0} has no ConfigMap {CA_CONFIG_MAP}; look at the operator's log")]
    NoCa(String),
    /// There is no port for it.
    #[error(transparent)]
    Port(#[from] PortsError),
    /// It does not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It starts and does not become ready.
    #[error("the broker is not ready after {} s; its log ends:\n{log}", READY_LIMIT.as_secs())]
    NotReady {
        /// The end of its log.
        log: String,
    },
}

/// A pod that no kubelet runs, and the files it would have.
///
/// Holds the workload's JWT: hence no `Debug`.
pub struct Pod {
    folder: PathBuf,
    vault_url: String,
    /// The workload's JWT, good for an hour.
    bearer: String,
    /// Bursar's CA, PEM.
    ca: String,
}

impl Pod {
    /// Makes the pod `name` and writes its files to a folder of that name in the
    /// testbed's.
    ///
    /// # Errors
    /// When the API server refuses, or the operator does not onboard the namespace.
    pub async fn create(
        testbed: &Handle,
        namespace: &str,
        name: &str,
        vault_url: &str,
    ) -> Result<Self, BrokerError> {
        testbed.create_pod(namespace, name, SERVICE_ACCOUNT).await?;
        let bearer = testbed
            .node_token(namespace, name, WORKLOAD_AUDIENCE)
            .await?;
        let vault_token = testbed.node_token(namespace, name, VAULT_AUDIENCE).await?;
        let ca = ca(testbed, namespace).await?;
        // The testbed's folder is private and goes with it.
        let folder = testbed.folder().join(name);
        fs::create_dir(&folder)?;
        fs::write(folder.join("vault-token"), vault_token)?;
        fs::write(folder.join("ca.crt"), &ca)?;
        Ok(Self {
            folder,
            vault_url: vault_url.to_owned(),
            bearer,
            ca,
        })
    }

    /// The pod's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bursar's CA, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }
}

/// From the ConfigMap that the operator writes into onboarded namespaces.
async fn ca(testbed: &Handle, namespace: &str) -> Result<String, BrokerError> {
    let maps = Api::<ConfigMap>::namespaced(testbed.client().await?, namespace);
    bursar_testbed::until(CA_LIMIT, CA_POLL, async || {
        maps.get(CA_CONFIG_MAP).await.ok()?.data?.remove("ca.crt")
    })
    .await
    .ok_or_else(|| BrokerError::NoCa(namespace.to_owned()))
}

/// A running broker, stopped when dropped.
pub struct Broker {
    process: Process,
    address: SocketAddr,
    bearer: String,
    took_to_start: Duration,
}

impl Broker {
    /// Starts the broker of `pod` and waits until it is ready.
    ///
    /// # Errors
    /// When it is not built, does not run, or is not ready within 30 seconds.
    pub async fn start(pod: &Pod) -> Result<Self, BrokerError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let health = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = pod.folder.join("broker.log");
        let spec = Spec::new(
            "broker",
            std::env::current_exe()?.with_file_name(PROGRAM),
            &log,
        )
        .args(["--vault", &pod.vault_url])
        .arg("--ca-file")
        .arg(pod.folder.join("ca.crt"))
        .arg("--token-file")
        .arg(pod.folder.join("vault-token"))
        .args(["--listen", &address.to_string()])
        .args(["--metrics-listen", &health.to_string()]);
        let start = Instant::now();
        let process = spec.spawn()?;
        bursar_testbed::until(READY_LIMIT, READY_POLL, async || is_ready(health).await)
            .await
            .ok_or_else(|| BrokerError::NotReady {
                log: bursar_testbed::tail(&log),
            })?;
        Ok(Self {
            process,
            address,
            bearer: pod.bearer.clone(),
            took_to_start: start.elapsed(),
        })
    }

    /// From starting the program until `/readyz` answered 200.
    pub fn took_to_start(&self) -> Duration {
        self.took_to_start
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where workloads are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The JWT of the pod's workload.
    pub fn bearer(&self) -> &str {
        &self.bearer
    }

    /// The body of a request for `token`; one line.
    pub fn access_body(token: &str) -> String {
        serde_json::json!({
            "user_id": USER,
            "token": token,
            "app_name": "bench",
            "purpose": "measure",
        })
        .to_string()
    }
}

async fn is_ready(health: SocketAddr) -> Option<()> {
    let mut connection = Connection::open(health).await.ok()?;
    let response = connection.get("/readyz").await.ok()?;
    response.status.is_success().then_some(())
}
