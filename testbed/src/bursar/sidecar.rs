//! A broker as a process: for the vault it is the sidecar of a pod that no kubelet runs.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::{BursarError, VAULT_NAME, at, probe, program};
use crate::files::replace_private;
use crate::handle::Handle;
use crate::ports::free_port;
use crate::process::{Process, Spec};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(60);
/// The operator writes it soon after it finds the namespace onboarded.
const AUTHORITY_LIMIT: Duration = Duration::from_secs(60);
/// A kubelet renews at four fifths of a token's hour; ours does not wait as long.
const RENEWAL: Duration = Duration::from_secs(20 * 60);
/// After a failed renewal, while the old tokens are good for 40 minutes more.
const RENEWAL_RETRY: Duration = Duration::from_secs(10);

/// A running broker and the files that a kubelet would give it, stopped when dropped.
#[derive(Debug)]
pub struct Sidecar {
    // Held for its end.
    _process: Process,
    files: Files,
    port: u16,
    metrics_port: u16,
}

/// What is mounted into the pod.
#[derive(Debug)]
struct Files {
    testbed: Handle,
    namespace: String,
    pod: String,
    folder: PathBuf,
}

impl Sidecar {
    /// Writes the pod's tokens and Bursar's CA to `folder`, made if it is not there, and
    /// starts `bursar-broker` with them; waits until it is ready.
    ///
    /// # Errors
    /// When it is not built, the pod is missing, the namespace is not onboarded, or the
    /// broker is not ready within a minute.
    pub async fn start(
        testbed: &Handle,
        vault_url: &str,
        namespace: &str,
        pod: &str,
        folder: &Path,
    ) -> Result<Self, BursarError> {
        let program = program("bursar-broker")?;
        fs::create_dir_all(folder).map_err(at(folder))?;
        let files = Files {
            testbed: testbed.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            folder: folder.to_owned(),
        };
        files.write().await?;
        let (port, metrics_port) = (free_port()?, free_port()?);
        let log = testbed
            .folder()
            .join(format!("broker.{namespace}.{pod}.log"));
        let mut process = Spec::new("bursar-broker", program, log)
            .args(["--vault", vault_url, "--vault-name", VAULT_NAME])
            .arg("--ca-file")
            .arg(files.authority())
            .arg("--token-file")
            .arg(files.vault_token())
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{metrics_port}")])
            .spawn()?;
        process
            .wait_until("/readyz", START_LIMIT, async || {
                probe::ready(metrics_port).await
            })
            .await?;
        Ok(Self {
            _process: process,
            files,
            port,
            metrics_port,
        })
    }

    /// The URL at which the pod's application would find the broker.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The URL of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.metrics_port)
    }

    /// The file with the application's token (audience `bursar`).
    pub fn token_file(&self) -> PathBuf {
        self.files.token()
    }

    /// The file with Bursar's CA.
    pub fn authority(&self) -> PathBuf {
        self.files.authority()
    }

    /// Renews the tokens, as a kubelet does, for as long as it is polled.
    pub async fn keep_fresh(&self) -> Infallible {
        loop {
            tokio::time::sleep(RENEWAL).await;
            while let Err(error) = self.files.write().await {
                eprintln!(
                    "testbed: cannot renew the tokens of pod {}: {error}",
                    self.files.pod
                );
                tokio::time::sleep(RENEWAL_RETRY).await;
            }
        }
    }
}

impl Files {
    fn token(&self) -> PathBuf {
        self.folder.join("token")
    }

    fn vault_token(&self) -> PathBuf {
        self.folder.join("vault-token")
    }

    fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    async fn write(&self) -> Result<(), BursarError> {
        for (audience, file) in [
            ("bursar", self.token()),
            ("bursar-vault", self.vault_token()),
        ] {
            let token = self
                .testbed
                .node_token(&self.namespace, &self.pod, audience)
                .await?;
            replace_private(&file, token.as_bytes()).map_err(at(&file))?;
        }
        let file = self.authority();
        replace_private(&file, self.read_authority().await?.as_bytes()).map_err(at(&file))
    }

    /// From the ConfigMap that the operator writes into onboarded namespaces.
    async fn read_authority(&self) -> Result<String, BursarError> {
        let client = self.testbed.client().await?;
        let maps = Api::<ConfigMap>::namespaced(client, &self.namespace);
        wait::until(AUTHORITY_LIMIT, Duration::from_millis(100), async || {
            maps.get("bursar-ca").await.ok()?.data?.remove("ca.crt")
        })
        .await
        .ok_or_else(|| BursarError::NoAuthority {
            namespace: self.namespace.clone(),
            log: self
                .testbed
                .folder()
                .join("operator.log")
                .display()
                .to_string(),
            tail: crate::process::tail(&self.testbed.folder().join("operator.log")),
        })
    }
}
