//! Kubeconfig files: written for people and programs, read for our own clients.

use std::io;
use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::files::write_private;

/// Why a kubeconfig file cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// It cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// No client can be made of it.
    #[error("{path}: {source}")]
    Client {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: Box<kube::Error>,
    },
}

/// How a client shows who it is.
pub(crate) enum Credential<'a> {
    /// Files with a client certificate and its key (PEM).
    Certificate {
        certificate: &'a Path,
        key: &'a Path,
    },
    /// A file with a bearer token, read again from time to time.
    TokenFile(&'a Path),
}

/// The API server's address and authority.
pub(crate) struct Cluster<'a> {
    pub(crate) url: &'a str,
    pub(crate) authority: &'a Path,
}

/// Writes a kubeconfig that only this user can read.
pub(crate) fn write(
    path: &Path,
    cluster: &Cluster<'_>,
    credential: &Credential<'_>,
) -> Result<(), KubeconfigError> {
    let user = match credential {
        Credential::Certificate { certificate, key } => {
            json!({ "client-certificate": certificate, "client-key": key })
        }
        Credential::TokenFile(file) => json!({ "tokenFile": file }),
    };
    // JSON is YAML too, and quotes any path as it must be.
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "testbed",
            "cluster": { "server": cluster.url, "certificate-authority": cluster.authority },
        }],
        "users": [{ "name": "testbed", "user": user }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "testbed" } }],
        "current-context": "testbed",
    });
    write_private(path, document.to_string().as_bytes()).map_err(|source| KubeconfigError::Write {
        path: path.display().to_string(),
        source,
    })
}

/// A client for the kubeconfig file `path`.
///
/// # Errors
/// When the file is missing or broken.
pub(crate) async fn client(path: &Path) -> Result<Client, KubeconfigError> {
    let config = config(path).await?;
    Client::try_from(config).map_err(|source| KubeconfigError::Client {
        path: path.display().to_string(),
        source: Box::new(source),
    })
}

/// A client that acts as node `node`, as its kubelet would.
///
/// # Errors
/// When the file is missing or broken; that the file's user may impersonate is seen at
/// the first request.
pub(crate) async fn client_as_node(path: &Path, node: &str) -> Result<Client, KubeconfigError> {
    let mut config = config(path).await?;
    config.auth_info.impersonate = Some(format!("system:node:{node}"));
    config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
    Client::try_from(config).map_err(|source| KubeconfigError::Client {
        path: path.display().to_string(),
        source: Box::new(source),
    })
}

async fn config(path: &Path) -> Result<Config, KubeconfigError> {
    let read_error = |source| KubeconfigError::Read {
        path: path.display().to_string(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(read_error)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(read_error)
}
