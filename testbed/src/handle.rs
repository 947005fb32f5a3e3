//! How to reach a running testbed, from the process that started it or from another.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use crate::database::{Database, DatabaseError, Server};
use crate::kubeconfig::{self, KubeconfigError};
use crate::random::{RandomError, suffix};

/// Why something could not be made in the testbed's cluster.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// A kubeconfig could not be written or used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The API server refused.
    #[error("cannot make {what}: {}", said(source))]
    Kubernetes {
        /// What was to be made.
        what: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server refused to remove something.
    #[error("cannot remove {what}: {}", said(source))]
    Remove {
        /// What was to be removed.
        what: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server's answer lacks what was asked for.
    #[error("cannot make {0}: the API server's answer has no status")]
    NoStatus(String),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The API server's own sentence, without the object around it.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// How to reach a testbed that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handle {
    pub(crate) folder: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) api_url: String,
    pub(crate) api_authority: PathBuf,
    pub(crate) postgres: Server,
}

impl Handle {
    /// The testbed's private folder, removed with it. Put files here that programs under
    /// test read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with `etcd`, `kube-apiserver` and `kubectl`.
    pub fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// A kubectl as old as the API server; it wants `KUBECONFIG` or `--kubeconfig`.
    pub fn kubectl(&self) -> PathBuf {
        self.bin().join("kubectl")
    }

    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.folder.join("kubectl-cache")
    }

    /// The kubeconfig file of an administrator (group `system:masters`).
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The Postgres server.
    pub fn postgres(&self) -> &Server {
        &self.postgres
    }

    /// An administrator's client. It belongs to the async runtime it is made in: make one
    /// per test.
    ///
    /// # Errors
    /// When the kubeconfig is gone, because the testbed is.
    pub async fn client(&self) -> Result<Client, HandleError> {
        Ok(kubeconfig::client(&self.kubeconfig).await?)
    }

    /// A client that acts as node `node`, as its kubelet would.
    ///
    /// # Errors
    /// When the kubeconfig is gone, because the testbed is.
    pub async fn client_as_node(&self, node: &str) -> Result<Client, HandleError> {
        Ok(kubeconfig::client_as_node(&self.kubeconfig, node).await?)
    }

    /// Makes a database for a vault, named after `hint`, migrated and with its two roles.
    ///
    /// # Errors
    /// When Postgres is away or refuses.
    pub async fn database(&self, hint: &str) -> Result<Database, DatabaseError> {
        self.postgres.create_database(hint).await
    }

    /// The same without any tables.
    ///
    /// # Errors
    /// When Postgres is away or refuses.
    pub async fn empty_database(&self, hint: &str) -> Result<Database, DatabaseError> {
        self.postgres.create_empty_database(hint).await
    }

    /// Makes a namespace named `hint` with a random suffix; its name.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, hint: &str) -> Result<String, HandleError> {
        let name = format!("{hint}-{}", suffix()?);
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        Api::<Namespace>::all(self.client().await?)
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(|source| HandleError::Kubernetes {
                what: format!("namespace {name}"),
                source: Box::new(source),
            })?;
        Ok(name)
    }
}
