//! The listener: TLS 1.3, HTTP/1.1, few connections, and an orderly end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bursar_vault::Places;
use bursar_wire::tls;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::People;
use crate::stop::Stop;

/// More than people ask at once; with all of them taken, newcomers wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Of one address: enough for an API server, from which all come whom it hands on, and so few
/// that no pod, nor a few of them, can keep it out.
const CONNECTIONS_OF_SOURCE: usize = 32;
/// Also how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of one request's head: a token has up to 8 KiB.
const LARGEST_HEAD: usize = 16 * 1024;
/// Calls that are still under way so long after the end began are cut off.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// After an accept failed (no file descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, and what is under way after it, for at most 10 seconds.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    people: Arc<People>,
    stop: &Stop,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let places = Places::new(CONNECTIONS_OF_SOURCE);
    let mut connections = JoinSet::new();
    let mut stopped = std::pin::pin!(stop.stopped());
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let next = tokio::select! {
            next = next => next,
            () = &mut stopped => break,
        };
        let (Some(slot), Ok((tcp, source))) = next else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // An IPv4 address in IPv6 clothes is the same one.
        let Some(place) = places.take(source.ip().to_canonical()) else {
            people.metrics.people_crowded();
            continue;
        };
        let (acceptor, people, stop) = (acceptor.clone(), Arc::clone(&people), stop.clone());
        connections.spawn(async move {
            serve_connection(&acceptor, tcp, people, &stop).await;
            drop((slot, place));
        });
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
        tracing::warn!("people's requests still under way were cut off");
    }
}

async fn serve_connection(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    people: Arc<People>,
    stop: &Stop,
) {
    let stream = match tls::accept(acceptor, tcp).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a person's TLS handshake failed");
            return;
        }
    };
    let service = service_fn(|request: Request<Incoming>| {
        let people = Arc::clone(&people);
        async move { Ok::<_, Infallible>(people.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that hangs up early is no failure of ours.
    let _ = tokio::select! {
        ended = &mut connection => ended,
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
