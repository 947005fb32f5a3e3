//! Who can talk to whom, over real sockets.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{accept, client_config, server_config};

const NAME: &str = "bursar-vault.bursar-system.svc";

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Serves one connection; what came of it, and where to reach it.
async fn serve(
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> (
    std::net::SocketAddr,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![NAME.to_owned()])
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    let signer = any_supported_type(&PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    let certified = CertifiedKey::new(vec![leaf.der().clone()], signer.unwrap());
    let config = server_config(Arc::new(Fixed(Arc::new(certified)))).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await?;
        accept(&TlsAcceptor::from(Arc::new(config)), tcp)
            .await
            .map(drop)
    });
    (address, served)
}

async fn dial(
    address: std::net::SocketAddr,
    name: &'static str,
    config: ClientConfig,
) -> std::io::Result<Option<ProtocolVersion>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).unwrap();
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    Ok(tls.get_ref().1.protocol_version())
}

#[tokio::test]
async fn a_client_that_trusts_our_ca_speaks_tls_1_3() {
    let ca = authority();
    let (address, served) = serve(&ca).await;
    let config = client_config(ca.pem().as_bytes()).unwrap();
    let version = dial(address, NAME, config).await.unwrap();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_offers_only_tls_1_2_is_refused() {
    let ca = authority();
    let (address, served) = serve(&ca).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(dial(address, NAME, config).await.is_err());
    assert!(served.await.unwrap().is_err());
}

#[tokio::test]
async fn a_vault_of_another_ca_or_another_name_is_not_trusted() {
    let (ours, theirs) = (authority(), authority());
    let trusting_ours = || client_config(ours.pem().as_bytes()).unwrap();

    let (address, _) = serve(&theirs).await;
    assert!(dial(address, NAME, trusting_ours()).await.is_err());

    let (address, _) = serve(&ours).await;
    assert!(
        dial(address, "other.example", trusting_ours())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn during_a_rotation_either_ca_of_the_bundle_is_trusted() {
    let (old, new) = (authority(), authority());
    let bundle = format!("{}{}", old.pem(), new.pem());
    for ca in [&old, &new] {
        let (address, _) = serve(ca).await;
        let config = client_config(bundle.as_bytes()).unwrap();
        assert!(dial(address, NAME, config).await.is_ok());
    }
}

#[test]
fn a_bundle_without_a_certificate_is_refused() {
    let error = client_config(b"").err().unwrap();
    assert!(error.to_string().contains("ca.crt"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_not_https_is_refused() {
    let ca = authority();
    for address in ["http://127.0.0.1:1", "https://127.0.0.1", "127.0.0.1:1", ""] {
        let config = client_config(ca.pem().as_bytes()).unwrap();
        let error = super::connect(address, NAME, config).await.err().unwrap();
        assert!(error.to_string().contains("https://HOST:PORT"), "{error}");
    }
}
