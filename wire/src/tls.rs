//! TLS 1.3, and nothing older, between broker and vault.
//!
//! tonic's own TLS settings fix one identity and leave the protocol version
//! open; the vault renews its leaf certificate while it runs, so both sides go
//! through rustls here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ResolvesServerCert;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, server};
use tonic::transport::{Channel, Endpoint};

/// HTTP/2 over TLS (RFC 9113).
const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 over TLS (RFC 7301).
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// A client that has said nothing for this long after connecting is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection, or the settings for one, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA bundle cannot be read as PEM.
    #[error("the CA bundle is not PEM: {0}")]
    CaNotPem(rustls::pki_types::pem::Error),
    /// The CA bundle has no certificate in it.
    #[error("the CA bundle has no certificate; expected the key ca.crt of ConfigMap bursar-ca")]
    CaEmpty,
    /// A certificate of the CA bundle, or the protocol version, was refused.
    #[error("TLS settings refused: {0}")]
    Settings(#[from] rustls::Error),
    /// The vault's address is not `https://HOST:PORT`.
    #[error("the vault's address must be https://HOST:PORT")]
    Address,
    /// The name to verify is neither a DNS name nor an IP address.
    #[error("the vault's name must be a DNS name or an IP address")]
    ServerName,
    /// The vault does not answer, or is not who it should be.
    #[error("connecting to the vault failed: {0}")]
    Connect(#[from] tonic::transport::Error),
}

/// The server's side: certificates come from the resolver, so that they can be
/// renewed while connections stand.
///
/// # Errors
/// When the process has no crypto provider that can speak TLS 1.3.
pub fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// The same for people, who speak HTTP/1.1.
///
/// # Errors
/// As [`server_config`].
pub fn people_server_config(
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, TlsError> {
    let mut config = server_config(certificates)?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// The client's side for people: trusts Bursar's own CA and no other.
///
/// # Errors
/// As [`client_config`].
pub fn people_client_config(ca_pem: &[u8]) -> Result<ClientConfig, TlsError> {
    let mut config = client_config(ca_pem)?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    Ok(config)
}

/// The client's side: trusts Bursar's own CA and no other.
///
/// # Errors
/// When `ca_pem` holds no usable certificate.
pub fn client_config(ca_pem: &[u8]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        roots.add(certificate.map_err(TlsError::CaNotPem)?)?;
    }
    if roots.is_empty() {
        return Err(TlsError::CaEmpty);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// Connects to the vault at `address` (`https://HOST:PORT`) and verifies that
/// it holds a certificate for `server_name`.
///
/// # Errors
/// [`TlsError::Connect`] when nobody answers there within 5 seconds, or
/// somebody else does; the other variants when the arguments are unusable.
pub async fn connect(
    address: &str,
    server_name: &str,
    config: ClientConfig,
) -> Result<Channel, TlsError> {
    let uri: Uri = address.parse().map_err(|_| TlsError::Address)?;
    if uri.scheme_str() != Some("https") {
        return Err(TlsError::Address);
    }
    let host_port = match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        _ => return Err(TlsError::Address),
    };
    let server_name =
        ServerName::try_from(server_name.to_owned()).map_err(|_| TlsError::ServerName)?;
    let connector = TlsConnector::from(Arc::new(config));

    // tonic would refuse the https scheme without its own TLS: the connector
    // below is what makes this connection https.
    let endpoint = Endpoint::from_shared(format!("http://{host_port}"))?
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let service = tower::service_fn(move |_: Uri| {
        let (connector, server_name, host_port) =
            (connector.clone(), server_name.clone(), host_port.clone());
        async move {
            let tcp = TcpStream::connect(host_port).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(server_name, tcp).await?;
            Ok::<_, io::Error>(TokioIo::new(tls))
        }
    });
    Ok(endpoint.connect_with_connector(service).await?)
}

/// A connection the server has accepted, after the handshake.
pub type ServerStream = server::TlsStream<TcpStream>;

/// Does the TLS handshake for a connection the server has accepted.
///
/// # Errors
/// When the client does not finish a TLS 1.3 handshake within 5 seconds.
pub async fn accept(acceptor: &TlsAcceptor, tcp: TcpStream) -> io::Result<ServerStream> {
    tcp.set_nodelay(true)?;
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))?
}

#[cfg(test)]
mod tests;
