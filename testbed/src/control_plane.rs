//! etcd and kube-apiserver: a Kubernetes API without controllers, scheduler and nodes.
//!
//! What follows from that: namespaces and owned objects are not swept after a deletion, a
//! namespace has no `default` service account, and no pod ever runs.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Request;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::net::TcpStream;

use crate::certificates::{Authority, Identity};
use crate::files::write_private;
use crate::kubeconfig::{self, Cluster, Credential, KubeconfigError};
use crate::ports::{PortsError, free_port};
use crate::process::{Process, ProcessError, Spec};

const START_LIMIT: Duration = Duration::from_secs(120);
/// What kubeadm uses, so that tokens look like those of a usual cluster.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Why there is no Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A file could not be read or written.
    #[error("control plane: {path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("control plane: cannot make its certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortsError),
    /// One of its processes failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The administrator's kubeconfig is unusable.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
}

/// A running Kubernetes API, stopped when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    url: String,
    authority: PathBuf,
    kubeconfig: PathBuf,
    // Dropped in this order: the API server needs etcd to end in order.
    _api_server: Process,
    _etcd: Process,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver from the folder `bin`, with data, certificates and
    /// logs below `folder`, and waits until the API server calls itself ready.
    ///
    /// # Errors
    /// When one of the two ends, or is not ready within two minutes.
    pub async fn start(bin: &Path, folder: &Path) -> Result<Self, ControlPlaneError> {
        let kube = folder.join("kubernetes");
        fs::create_dir(&kube).map_err(at(&kube))?;
        let api_port = free_port()?;
        let etcd_port = free_port()?;
        let kubeconfig = folder.join("kubeconfig");
        let url = format!("https://127.0.0.1:{api_port}");
        write_credentials(&kube, &kubeconfig, &url)?;

        let mut etcd = etcd(bin, folder, etcd_port).spawn()?;
        etcd.wait_until("an open port", START_LIMIT, async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, etcd_port))
                .await
                .ok()
        })
        .await?;
        let mut api_server = api_server(bin, folder, api_port, etcd_port).spawn()?;
        let client = kubeconfig::client(&kubeconfig).await?;
        api_server
            .wait_until("/readyz", START_LIMIT, async || {
                let request = Request::get("/readyz").body(Vec::new()).ok()?;
                client.request_text(request).await.ok()
            })
            .await?;
        Ok(Self {
            url,
            authority: kube.join("ca.crt"),
            kubeconfig,
            _api_server: api_server,
            _etcd: etcd,
        })
    }

    /// The kubeconfig file of an administrator (group `system:masters`).
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file (PEM) with the authority that signed the API server's certificate.
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

fn write_credentials(kube: &Path, kubeconfig: &Path, url: &str) -> Result<(), ControlPlaneError> {
    let authority = Authority::new("Bursar testbed, Kubernetes")?;
    let server = authority.server(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    let administrator = authority.client("testbed-administrator", "system:masters")?;
    // RSA like the tokens of most clusters; the API server wants no other than PEM.
    let token_key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    write(&kube.join("ca.crt"), authority.certificate())?;
    write_identity(kube, "server", &server)?;
    write_identity(kube, "administrator", &administrator)?;
    write(&kube.join("token.key"), &token_key.serialize_pem())?;
    kubeconfig::write(
        kubeconfig,
        &Cluster {
            url,
            authority: &kube.join("ca.crt"),
        },
        &Credential::Certificate {
            certificate: &kube.join("administrator.crt"),
            key: &kube.join("administrator.key"),
        },
    )?;
    Ok(())
}

fn etcd(bin: &Path, folder: &Path, port: u16) -> Spec {
    let url = format!("http://127.0.0.1:{port}");
    Spec::new("etcd", bin.join("etcd"), folder.join("etcd.log"))
        .arg("--data-dir")
        .arg(folder.join("kubernetes/etcd"))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .arg("--listen-peer-urls=http://127.0.0.1:0")
        // Nothing here outlives the process: no need to wait for the disk.
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn")
}

fn api_server(bin: &Path, folder: &Path, port: u16, etcd_port: u16) -> Spec {
    let kube = folder.join("kubernetes");
    let file = |flag: &str, name: &str| format!("--{flag}={}", kube.join(name).display());
    Spec::new(
        "kube-apiserver",
        bin.join("kube-apiserver"),
        folder.join("kube-apiserver.log"),
    )
    .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
    .arg("--bind-address=127.0.0.1")
    .arg("--advertise-address=127.0.0.1")
    .arg(format!("--secure-port={port}"))
    // No Endpoints for the `kubernetes` Service: they may not be loopback.
    .arg("--endpoint-reconciler-type=none")
    .arg("--service-cluster-ip-range=10.0.0.0/24")
    .arg(file("tls-cert-file", "server.crt"))
    .arg(file("tls-private-key-file", "server.key"))
    .arg(file("client-ca-file", "ca.crt"))
    .arg(file("service-account-signing-key-file", "token.key"))
    .arg(file("service-account-key-file", "token.key"))
    .arg(format!("--service-account-issuer={ISSUER}"))
    .arg("--authorization-mode=Node,RBAC")
    .arg("--enable-admission-plugins=NodeRestriction")
}

fn write_identity(kube: &Path, name: &str, identity: &Identity) -> Result<(), ControlPlaneError> {
    write(&kube.join(format!("{name}.crt")), &identity.certificate)?;
    write(&kube.join(format!("{name}.key")), &identity.key)
}

fn write(path: &Path, text: &str) -> Result<(), ControlPlaneError> {
    write_private(path, text.as_bytes()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ControlPlaneError {
    let path = path.display().to_string();
    move |source| ControlPlaneError::File { path, source }
}
