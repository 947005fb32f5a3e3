//! A workload: asks the broker for a token over HTTP, on one connection.

use std::net::SocketAddr;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The call that all benchmarks measure.
pub const ACCESS_PATH: &str = "/v1/tokens/access";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Nobody listens there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("{address} did not answer: {source}")]
    Http {
        /// Who.
        address: SocketAddr,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The request cannot be sent at all.
    #[error("the request to {address} cannot be sent: {source}")]
    Request {
        /// To whom.
        address: SocketAddr,
        /// What is wrong with it.
        source: http::Error,
    },
}

/// An answer, read to its end.
///
/// May hold a token, if only a made-up one: hence no `Debug`.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// One connection to one server.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects to `address`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self, WorkloadError> {
        let connect = |source| WorkloadError::Connect { address, source };
        let tcp = TcpStream::connect(address).await.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(tcp))
            .await
            .map_err(|source| WorkloadError::Http { address, source })?;
        // Ends with the sender; its error comes with the request that fails.
        tokio::spawn(connection);
        Ok(Self { address, sender })
    }

    /// Asks for a token.
    ///
    /// # Errors
    /// When there is no answer; a refusal is an answer.
    pub async fn access(&mut self, bearer: &str, body: &str) -> Result<Response, WorkloadError> {
        let request = self
            .request(Method::POST, ACCESS_PATH)
            .header(AUTHORIZATION, format!("Bearer {bearer}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_owned()));
        self.send(request).await
    }

    /// Gets `path` without showing who is asking.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&mut self, path: &str) -> Result<Response, WorkloadError> {
        let request = self.request(Method::GET, path).body(Full::default());
        self.send(request).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
    }

    async fn send(
        &mut self,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<Response, WorkloadError> {
        let address = self.address;
        let http = |source| WorkloadError::Http { address, source };
        let request = request.map_err(|source| WorkloadError::Request { address, source })?;
        self.sender.ready().await.map_err(http)?;
        let (parts, body) = self
            .sender
            .send_request(request)
            .await
            .map_err(http)?
            .into_parts();
        let body = body.collect().await.map_err(http)?.to_bytes();
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}
