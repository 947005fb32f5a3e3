//! Listening on loopback, and serving connections within bounds.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Answer;

/// Connections at a time, over all listeners of a server; more wait in the
/// kernel's queue.
const MOST_CONNECTIONS: u32 = 1024;
/// How long a client may take to send a request's head, and how long a
/// connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
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

/// A server: its listeners, and its connections as permits that are out.
pub(crate) struct Server {
    listeners: Vec<TcpListener>,
    connections: Arc<Semaphore>,
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
        let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
        Ok(Self {
            listeners,
            connections,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Answers requests with `handle` until `stopping` is true; then accepts
    /// no more, lets requests under way finish, and returns when the last
    /// connection is closed.
    pub(crate) async fn run<H, F>(self, handle: H, stopping: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>) -> F + 'static,
        F: Future<Output = Answer> + 'static,
    {
        let handle = Rc::new(handle);
        let accepting = self.listeners.into_iter().map(|listener| {
            tokio::task::spawn_local(accept(
                listener,
                Arc::clone(&self.connections),
                Rc::clone(&handle),
                stopping.clone(),
            ))
        });
        futures::future::join_all(accepting.collect::<Vec<_>>()).await;
        // Closed permits cannot be; all being back means that none is out.
        let _ = self.connections.acquire_many(MOST_CONNECTIONS).await;
    }
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT]
        .iter()
        .any(|absent| error.raw_os_error() == Some(absent.raw_os_error()))
}

async fn accept<H, F>(
    listener: TcpListener,
    connections: Arc<Semaphore>,
    handle: Rc<H>,
    mut stopping: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    let on_connection = stopping.clone();
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection =
                        serve(stream, Rc::clone(&handle), on_connection.clone(), permit);
                    tokio::task::spawn_local(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

async fn serve<H, F>(
    stream: TcpStream,
    handle: Rc<H>,
    mut stopping: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    // Answers are small and complete: waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A connection that ends in an error is the client's to notice.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(permit);
}
