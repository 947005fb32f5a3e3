//! One replica's vault service, on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use bursar_vault::Vault;
use bursar_vault::service::{PodReviewer, Settings, StartError, VaultService, serve};
use bursar_wire::tls;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::cluster::Cluster;

/// The name that replicas' certificates are for.
pub(crate) const SERVER_NAME: &str = "bursar-vault.test";

/// Bursar's own CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn certify(&self) -> CertifiedKey {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
        CertifiedKey::new(vec![certificate.der().clone()], key)
    }
}

pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) service: VaultService,
    metrics: Registry,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Replica {
    pub(crate) async fn start(
        vault: Vault,
        cluster: &Arc<Cluster>,
        authority: &Authority,
        settings: Settings,
    ) -> Self {
        let started = Self::try_start(vault, cluster, authority, settings).await;
        started.unwrap()
    }

    pub(crate) async fn try_start(
        vault: Vault,
        cluster: &Arc<Cluster>,
        authority: &Authority,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let mut metrics = Registry::default();
        let reviewer: Arc<dyn PodReviewer> = cluster.clone();
        let issuer = cluster.issuer.subscribe();
        let service = VaultService::start(vault, issuer, reviewer, settings, &mut metrics).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = SingleCertAndKey::from(authority.certify());
        let config = tls::server_config(Arc::new(certificate)).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        Ok(Self {
            address,
            metrics,
            stop: Some(stop),
            served: tokio::spawn(serve(listener, config, service.clone(), shutdown)),
            service,
        })
    }

    /// Asks the replica to end, and waits until it has drained.
    pub(crate) async fn stop(mut self) {
        self.begin_to_stop();
        self.served.await.unwrap();
    }

    /// Asks the replica to end.
    pub(crate) fn begin_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }

    /// The value of a metric, by its full name and labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.metrics).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}
