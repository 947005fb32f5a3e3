//! The listener: TLS, connections that are not known yet, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bursar_wire::tls;
use bursar_wire::v1alpha1::vault_server::VaultServer;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tower::filter::AsyncFilterLayer;

use super::VaultService;
use super::connection::{Connection, StrangersPlace};
use super::stranger;
use crate::places::Places;

/// The largest message a broker may send, in bytes: a report of as many records
/// as there may be in one, and an hour's denials, with the longest names.
const LARGEST_MESSAGE: usize = 1280 * 1024;
/// Bytes of one call, and of all calls of one connection, that are taken in
/// before they are asked for.
const CALL_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// The most header bytes of one call.
const LARGEST_HEADERS: u32 = 16 * 1024;
/// Calls under way on one connection: one watch, and a few beside it.
const CALLS_PER_CONNECTION: u32 = 32;
/// A broker that does not answer a ping for this long has gone.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle broker is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Calls that are still under way so long after the end began are cut off.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// After an accept failed (no file descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves brokers on `listener` until `shutdown` resolves, then drains: streams
/// end, calls under way finish (for at most 10 seconds), and it returns.
///
/// With it run what the service does without being called: following changes,
/// sweeping lapsed allowances, handing on the issuer's keys. `tls` comes from
/// [`bursar_wire::tls::server_config`]. A handshake that fails is counted.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    service: VaultService,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, stopping) = watch::channel(false);
    let (accepted, incoming) = mpsc::channel(1);
    let mut background = JoinSet::new();
    background.spawn(accept(
        listener,
        tls,
        service.clone(),
        accepted,
        stopping.clone(),
    ));
    background.spawn(service.clone().follow_changes());
    background.spawn(service.clone().sweep());
    background.spawn(service.clone().trim());
    background.spawn(service.clone().follow_issuer());

    let watchers = service.watchers().clone();
    let turns = service.turns().clone();
    let calls = VaultServer::new(service).max_decoding_message_size(LARGEST_MESSAGE);
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_header_list_size(LARGEST_HEADERS)
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(AsyncFilterLayer::new(move |request| {
            stranger::admit(turns.clone(), request)
        }))
        .add_service(calls)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stopped(stopping));
    let server = tokio::spawn(server);

    tokio::select! {
        () = shutdown => tracing::info!("vault service is draining"),
        // None of them ends by itself: without one, this replica serves nobody.
        Some(ended) = background.join_next() => {
            tracing::error!(?ended, "a part of the vault service failed; draining");
        }
    }
    stop.send_replace(true);
    watchers.close();
    match tokio::time::timeout(DRAIN_LIMIT, server).await {
        Ok(Ok(Ok(()))) => tracing::info!("vault service has drained"),
        Ok(Ok(Err(error))) => tracing::error!(%error, "vault service failed"),
        Ok(Err(error)) => tracing::error!(%error, "vault service failed"),
        Err(_) => tracing::warn!("calls still under way were cut off"),
    }
    background.shutdown().await;
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Accepts connections, and does their handshakes side by side.
async fn accept(
    listener: TcpListener,
    tls: ServerConfig,
    service: VaultService,
    accepted: mpsc::Sender<io::Result<Connection>>,
    stopping: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let settings = service.settings();
    let all = Arc::new(Semaphore::new(settings.unattached_connections));
    // Not one of each: behind a translated address there may be many pods, and all of them
    // attach at once when a replica has started.
    let of_source = Places::new(settings.unattached_connections_of_source);
    let mut stop = std::pin::pin!(stopped(stopping));
    for number in 0.. {
        let next = async {
            // With no place left, newcomers wait in the kernel's queue.
            let permit = Arc::clone(&all).acquire_owned().await;
            let permit = permit.map_err(io::Error::other)?;
            let (tcp, source) = listener.accept().await?;
            // An IPv4 address in IPv6 clothes is the same one.
            let place = of_source.take(source.ip().to_canonical());
            let place = place.map(|of_source| StrangersPlace {
                _in_all: permit,
                _of_source: of_source,
            });
            io::Result::Ok((tcp, place))
        };
        let next = tokio::select! {
            biased;
            () = &mut stop => return,
            next = next => next,
        };
        match next {
            Ok((tcp, Some(place))) => {
                let greeting = greet(service.clone(), acceptor.clone(), tcp, number, place);
                tokio::spawn(hand_over(greeting, accepted.clone()));
            }
            Ok((_closed, None)) => {
                service.metrics().crowded_sources.inc();
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Does one handshake; `None` when it failed.
async fn greet(
    service: VaultService,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    number: u64,
    place: StrangersPlace,
) -> Option<Connection> {
    match tls::accept(&acceptor, tcp).await {
        Ok(tls) => {
            let time_to_attach = service.settings().time_to_attach;
            Some(Connection::new(tls, number, place, time_to_attach))
        }
        Err(error) => {
            service.metrics().failed_handshakes.inc();
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

async fn hand_over(
    greeting: impl Future<Output = Option<Connection>>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    if let Some(connection) = greeting.await {
        // Not taken only when the server has stopped: then the connection closes.
        let _ = accepted.send(Ok(connection)).await;
    }
}

#[cfg(test)]
mod tests {
    use bursar_wire::v1alpha1::{AccessRecord, Denial, ReportRequest};
    use bursar_wire::{DENIALS_AN_HOUR, LARGEST_REPORT, QUOTAS_TOLD};
    use prost::Message as _;

    use super::LARGEST_MESSAGE;

    #[test]
    fn the_largest_report_is_not_too_large_a_message() {
        let id = "00000000-0000-0000-0000-000000000000".to_owned();
        let record = AccessRecord {
            allowance_id: id.clone(),
            app_name: "a".repeat(64),
            purpose: "p".repeat(64),
            count: u32::MAX,
            first_time_ms: i64::MAX,
            last_time_ms: i64::MAX,
        };
        let denial = Denial {
            decision_id: "0".repeat(32),
            code: "c".repeat(40),
            user_id: "u".repeat(253),
            token: "t".repeat(253),
            app_name: "a".repeat(64),
            purpose: "p".repeat(64),
            time_ms: i64::MAX,
            quotas: vec!["q".repeat(253); QUOTAS_TOLD],
        };
        let report = ReportRequest {
            seq: u64::MAX,
            digest: vec![0; 32],
            records: vec![record; LARGEST_REPORT],
            closed_allowance_ids: vec![id; LARGEST_REPORT],
            denials: vec![denial; DENIALS_AN_HOUR.into()],
        };
        assert!(report.encoded_len() <= LARGEST_MESSAGE);
    }
}
