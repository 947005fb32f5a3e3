//! TLS, connections that nobody has vouched for, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use bursar_testbed::until;
use bursar_vault::service::{Settings, Stage};
use bursar_wire::v1alpha1::grant_response::Answer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use crate::support::broker::Broker;
use crate::support::gates::Gates;
use crate::support::replica::{Authority, Replica, SERVER_NAME};
use crate::support::{Bed, DEADLINE};

/// A TLS connection and nothing on it.
async fn connect(
    replica: &Replica,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = authority.pem();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(replica.address).await?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await?;
    // A server may refuse after the client's half of the handshake.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    tls.flush().await?;
    Ok(tls)
}

/// Reads until the server closes.
async fn until_closed(tls: &mut TlsStream<TcpStream>) {
    let mut buffer = [0; 1024];
    let read = async { while !matches!(tls.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(DEADLINE, read)
        .await
        .expect("the connection was not closed");
}

async fn until_metric(replica: &Replica, name: &str, wanted: u64) {
    let reached = until(DEADLINE, Duration::from_millis(10), async || {
        (replica.metric(name) == wanted).then_some(())
    });
    reached
        .await
        .unwrap_or_else(|| panic!("{name}: {}", replica.metric(name)));
}

#[tokio::test]
async fn only_tls_1_3_and_only_our_own_authority() {
    let bed = Bed::new("transport_tls").await;
    let replica = bed.replica().await;
    assert!(
        connect(&replica, &bed.authority, &version::TLS13)
            .await
            .is_ok()
    );
    let refused = connect(&replica, &bed.authority, &version::TLS12)
        .await
        .err()
        .unwrap();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    let stranger = Authority::new();
    let refused = connect(&replica, &stranger, &version::TLS13)
        .await
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("invalid peer certificate"),
        "{refused}"
    );
    assert!(
        Broker::connect_to(replica.address, &stranger.pem())
            .await
            .is_err()
    );

    // No TLS at all. The server counts what failed, and goes on.
    let mut plain = TcpStream::connect(replica.address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    assert_ne!(plain.read(&mut [0; 64]).await.unwrap_or(0), 64);
    drop(plain);
    until_metric(&replica, "bursar_vault_failed_handshakes_total", 4).await;
    let team = bed.team("team").await;
    bed.broker(&replica, &team, "app").await;
    replica.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_attach_is_closed() {
    let bed = Bed::new("transport_silent").await;
    let settings = Settings {
        // Enough for who does attach, on a machine with other work.
        time_to_attach: Duration::from_secs(3),
        unattached_connections: 1,
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let team = bed.team("team").await;
    let known = bed.broker(&replica, &team, "app").await;
    let (mut events, _) = known.watch().await;
    // It answers pings and asks for things, and has the only place there is.
    let stranger = Broker::connect(&replica, &bed.authority).await;
    assert!(stranger.describe("ana").await.is_err());
    bed.broker(&replica, &team, "app").await;
    let mut silent = connect(&replica, &bed.authority, &version::TLS13)
        .await
        .unwrap();
    until_closed(&mut silent).await;
    // Who has attached stays.
    assert!(events.loses_nothing().await);
    known.describe("ana").await.unwrap();
    replica.stop().await;
}

/// A plain connection from this address of the machine's own.
async fn connect_from(source: [u8; 4], replica: &Replica) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(replica.address).await.unwrap()
}

#[tokio::test]
async fn one_address_does_not_take_all_places_of_those_who_have_not_attached() {
    let bed = Bed::new("transport_source").await;
    let settings = Settings {
        unattached_connections: 4,
        unattached_connections_of_source: 3,
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let team = bed.team("team").await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect_from([127, 0, 0, 2], &replica).await);
    }
    // As many more as it likes: each is closed at once.
    for _ in 0..3 {
        let mut refused = connect_from([127, 0, 0, 2], &replica).await;
        let closed = tokio::time::timeout(DEADLINE, refused.read(&mut [0; 64])).await;
        assert_eq!(closed.expect("it was not closed").unwrap_or(0), 0);
    }
    until_metric(&replica, "bursar_vault_crowded_sources_total", 3).await;
    // 127.0.0.1 is not kept out, and takes no place once it has attached.
    for _ in 0..4 {
        bed.broker(&replica, &team, "app").await;
    }
    // Nor is the other, once one of its connections has gone.
    silent.pop();
    let read = until(DEADLINE, Duration::from_millis(10), async || {
        let mut again = connect_from([127, 0, 0, 2], &replica).await;
        let mut buffer = [0; 64];
        let closed = again.read(&mut buffer);
        let waited = tokio::time::timeout(Duration::from_millis(200), closed).await;
        waited.is_err().then_some(())
    });
    read.await.expect("its place was not free again");
    replica.stop().await;
}

#[tokio::test]
async fn nothing_but_an_attach_is_read_on_a_connection_that_has_not_attached() {
    let bed = Bed::new("transport_stranger").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let known = bed.broker(&replica, &team, "app").await;
    // Even with the proof of an incarnation that lives, and with no end of a
    // message that would be too large for anybody.
    let stranger = known.unattached(&replica, &bed.authority).await;
    let large = vec!["x".repeat(8 * 1024 * 1024)];
    let refused = stranger.report_numbered(1, Vec::new(), large.clone()).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("before an attach"), "{refused}");
    let refused = stranger.describe("ana").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    // Who has attached is told that it is too large.
    let refused = known.report_numbered(1, Vec::new(), large).await;
    assert_eq!(refused.err().unwrap().code(), Code::OutOfRange);
    // An attach is not a way around.
    let mut stranger = Broker::connect(&replica, &bed.authority).await;
    let refused = stranger.attach(&"x".repeat(17 * 1024)).await.err().unwrap();
    assert_ne!(refused.code(), Code::Unauthenticated, "{refused}");
    let refused = stranger.attach(&"x".repeat(15 * 1024)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    known.describe("ana").await.unwrap();
    replica.stop().await;
}

#[tokio::test]
async fn a_connection_speaks_for_the_incarnation_that_attached_on_it() {
    let bed = Bed::new("transport_other").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let other = bed.broker(&replica, &team, "app").await;
    let own = broker.incarnation.clone();
    // Another's, with its proof.
    broker.incarnation = other.incarnation.clone();
    let refused = broker.describe("ana").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    broker.incarnation = own;
    broker.describe("ana").await.unwrap();
    replica.stop().await;
}

#[tokio::test]
async fn strangers_take_no_more_than_their_places() {
    let bed = Bed::new("transport_places").await;
    let settings = Settings {
        unattached_connections: 2,
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let team = bed.team("team").await;
    // Those who attached take no place, however many they are.
    let mut attached = Vec::new();
    for _ in 0..5 {
        attached.push(bed.broker(&replica, &team, "app").await);
    }
    let first = connect(&replica, &bed.authority, &version::TLS13)
        .await
        .unwrap();
    let second = connect(&replica, &bed.authority, &version::TLS13)
        .await
        .unwrap();
    let third = connect(&replica, &bed.authority, &version::TLS13);
    let waits = tokio::time::timeout(Duration::from_millis(300), third).await;
    assert!(waits.is_err(), "a third stranger was served");
    // The others are served meanwhile, and a free place is taken.
    attached[0].describe("ana").await.unwrap();
    drop(first);
    bed.broker(&replica, &team, "app").await;
    drop(second);
    replica.stop().await;
}

#[tokio::test]
async fn what_is_under_way_ends_well_when_a_replica_stops() {
    let bed = Bed::new("transport_drain").await;
    let gates = Gates::new();
    let settings = Settings {
        stages: gates.clone(),
        ..Settings::default()
    };
    let (team, ..) = bed.team_with_token().await;
    let mut replica = bed.replica_with(settings).await;
    let broker = bed.broker(&replica, &team, "app").await;
    let (mut events, _) = broker.watch().await;
    gates.close_all();
    let asking = broker.clone();
    let asked =
        tokio::spawn(async move { asking.grant_numbered(1, "ana", Some("github"), 1).await });
    gates.until_reached(Stage::GrantDecided).await;

    replica.begin_to_stop();
    // The stream ends, so that the broker goes elsewhere; nobody new is let in.
    while events.try_next().await.unwrap().is_some() {}
    let refused = until(DEADLINE, Duration::from_millis(10), async || {
        TcpStream::connect(replica.address).await.err()
    });
    refused.await.expect("the port is still open");
    gates.open(Stage::GrantDecided);
    gates.open(Stage::GrantCommitted);
    let answer = asked.await.unwrap().unwrap().answer.unwrap();
    assert!(matches!(answer, Answer::Granted(_)));
    replica.stop().await;

    let next = bed.replica().await;
    let mut moved = broker.moved(&next, &bed.authority).await;
    moved.request_no = 1;
    moved.granted("ana", "github").await;
    next.stop().await;
}
