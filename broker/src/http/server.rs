//! Listening, and serving connections within bounds.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;

use super::Answer;
use super::connections::{Connection, Connections, Order};
use super::gather::{GatherBuffer, Gathering};

/// Connections at a time, over all listeners of a server; more wait in the
/// kernel's queue.
const MOST_CONNECTIONS: u32 = 1024;
/// Room for a request's head: a token of 8 KiB and the rest.
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// How long to wait when the kernel has no file descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is nowhere to listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("cannot listen on {address}: {error}")]
    Bind {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("none of the addresses to listen on exists on this machine")]
    NoAddress,
}

/// A server that listens.
pub(crate) struct Server {
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Listens on all of `addresses` that the machine has. Many machines have
    /// no IPv6 loopback address, so one that does not exist is only logged.
    ///
    /// # Errors
    /// When an address is taken, or none exists.
    pub(crate) async fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for &address in addresses {
            match TcpListener::bind(address).await {
                Ok(listener) => listeners.push(listener),
                Err(error) if is_absent(&error) => {
                    tracing::warn!(%address, "this machine has no such address; going on without");
                }
                Err(error) => return Err(BindError::Bind { address, error }),
            }
        }
        if listeners.is_empty() {
            return Err(BindError::NoAddress);
        }
        Ok(Self { listeners })
    }

    /// Listens on `address`. Where that is `[::]`, which takes in IPv4, and the machine
    /// has no IPv6 at all: on `0.0.0.0`.
    ///
    /// # Errors
    /// When the address is taken or does not exist.
    pub(crate) async fn bind_one(address: SocketAddr) -> Result<Self, BindError> {
        match Self::bind(&[address]).await {
            Err(BindError::NoAddress) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                Self::bind(&[(Ipv4Addr::UNSPECIFIED, address.port()).into()]).await
            }
            bound => bound,
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Answers requests with `handle` until `stop`; then accepts no more, lets
    /// requests under way finish, and returns when the last connection is
    /// closed.
    pub(crate) async fn run<H, F>(self, handle: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Answer> + 'static,
    {
        let handle = Rc::new(handle);
        let buffer = Rc::default();
        let connections = Connections::default();
        // A permit is out for each connection, and one for each listener that
        // waits for the next.
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
        let accepting = self
            .listeners
            .iter()
            .map(|listener| accept(listener, &permits, &connections, &handle, &buffer));
        tokio::select! {
            _ = futures::future::join_all(accepting) => {}
            () = connections.watch() => {}
            () = stop => {}
        }
        drop(self.listeners);
        connections.finish();
        tokio::select! {
            _ = permits.acquire_many(MOST_CONNECTIONS) => {}
            () = connections.watch() => {}
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT]
        .iter()
        .any(|absent| error.raw_os_error() == Some(absent.raw_os_error()))
}

async fn accept<H, F>(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    connections: &Connections,
    handle: &Rc<H>,
    buffer: &Rc<GatherBuffer>,
) where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    // The permits are never closed.
    while let Ok(permit) = Arc::clone(permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and complete: waiting for more only delays them.
                let _ = stream.set_nodelay(true);
                let stream = Gathering::new(stream, Rc::clone(buffer));
                spawn_local(serve(stream, Rc::clone(handle), connections.open(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve<S, H, F>(
    stream: S,
    handle: Rc<H>,
    connection: Rc<Connection>,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    let service = service_fn(|request| {
        connection.begin();
        let answer = handle(request);
        let connection = &connection;
        async move {
            let answer = answer.await;
            connection.end();
            Ok::<_, Infallible>(answer)
        }
    });
    // No timer is given: `connection` is watched instead.
    let serving = http1::Builder::new()
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    loop {
        tokio::select! {
            biased;
            // An error here is the client's to notice.
            _ = serving.as_mut() => break,
            order = connection.ordered() => match order {
                Order::Finish => serving.as_mut().graceful_shutdown(),
                Order::Cut => break,
            },
        }
    }
    drop(permit);
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::task::LocalSet;

    use super::super::answer;
    use super::super::connections::HEAD_TICKS;
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// A client of a server that answers everything with 200.
    async fn client(connections: &Connections) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let handle = |_| async { answer(http::StatusCode::OK, "text/plain", "ok".into()) };
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let (stream, _) = accepted.unwrap();
        let connection = connections.open();
        spawn_local(serve(stream, Rc::new(handle), connection, permit));
        client.unwrap()
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_request_is_hung_up_on() {
        let test = async {
            let connections = Connections::default();
            let mut client = client(&connections).await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
            for _ in 0..=HEAD_TICKS {
                connections.tick();
            }
            // Nothing more comes: the end, or a reset for what was not read.
            let mut rest = Vec::new();
            let end = tokio::time::timeout(DEADLINE, client.read_to_end(&mut rest));
            let _ = end.await.expect("the connection is closed");
            assert!(rest.is_empty());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_when_the_server_ends() {
        let test = async {
            let connections = Connections::default();
            let mut client = client(&connections).await;
            client
                .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await
                .unwrap();
            let mut head = [0; 12];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
            connections.finish();
            let mut rest = Vec::new();
            let end = tokio::time::timeout(DEADLINE, client.read_to_end(&mut rest));
            end.await.expect("the connection is closed").unwrap();
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn all_addresses_of_the_machine_are_reached_over_ipv4_too() {
        let all = (Ipv6Addr::UNSPECIFIED, 0).into();
        let server = Server::bind_one(all).await.unwrap();
        let addresses = server.addresses().unwrap();
        assert!(addresses[0].ip().is_unspecified());
        let ipv4 = (Ipv4Addr::LOCALHOST, addresses[0].port());
        TcpStream::connect(ipv4).await.unwrap();
    }
}
