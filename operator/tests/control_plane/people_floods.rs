//! Who floods the service for people keeps nobody else from it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bursar_testbed::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::attach::with_pod;
use crate::cli::ask_through;
use crate::operator::{LIMIT, PAUSE};
use crate::people::{ABSENT, with_token};
use crate::team::Team;

/// As many as one address may have.
const OF_SOURCE: usize = 32;

/// A connection from an address of this machine.
async fn connect_from(team: &Team, source: IpAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let port = team.operator.people_port();
    let vault = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect(vault).await.unwrap()
}

/// Whether the other side has closed it; it sends nothing by itself.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(PAUSE, stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn one_address_cannot_keep_others_from_asking() {
    let team = with_pod().await;
    team.bind("bursar-auditor", "bursar-auditor").await;
    let flooder = IpAddr::from([127, 0, 9, 1]);
    let mut held = Vec::new();
    for _ in 0..OF_SOURCE {
        held.push(connect_from(&team, flooder).await);
    }
    let closed = until(LIMIT, PAUSE, async || {
        let mut next = connect_from(&team, flooder).await;
        is_closed(&mut next).await.then_some(())
    });
    closed.await.expect("one address has as many as it likes");
    // From another address it is as ever.
    assert!(team.bursar(&["audit"]).await.unwrap().success);
    drop(held);
}

#[tokio::test]
async fn a_connection_of_somebody_unknown_ends_with_its_first_answer() {
    let team = with_pod().await;
    team.bind("bursar-auditor", "bursar-auditor").await;
    let good = team.token_of("bursar-auditor", "bursar-cli").await;
    for (token, is_kept) in [("a.b.c", false), (good.as_str(), true)] {
        let tcp = connect_from(&team, Ipv4Addr::LOCALHOST.into()).await;
        let mut stream = team.greet(tcp).await.unwrap();
        let path = format!("/v1/namespaces/{}/denials/{ABSENT}", team.namespace);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: v\r\nBursar-Person: ana\r\nBursar-Token: {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let length = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
        assert_eq!(answer.contains("connection: close"), !is_kept, "{answer}");
        if !is_kept {
            let mut rest = Vec::new();
            // Ends, with or without a TLS goodbye.
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
}

#[tokio::test]
async fn who_shares_a_service_account_revokes_beside_the_others() {
    let team = with_pod().await;
    team.bind("bursar-revoker", "bursar-revoker").await;
    let path = format!(
        "GET /v1/namespaces/{}/storedtokens/absent/revocation",
        team.namespace
    );
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(team.token_of("bursar-revoker", "bursar-cli").await);
    }
    let asked = tokens.iter().map(async |token| {
        let headers = [("Bursar-Token", token.as_str()), ("Bursar-Person", "ana")];
        team.ask(&path, &headers, "").await.0
    });
    let answers = futures::future::join_all(asked).await;
    assert_eq!(answers, [404; 6]);
}

#[tokio::test]
async fn who_asks_without_a_right_is_slowed_down_and_others_revoke() {
    let (team, stranger) = (with_token().await, Team::new().await);
    stranger
        .testbed
        .create_service_account(&stranger.namespace, "nobody")
        .await
        .unwrap();
    let token = stranger.token_of("nobody", "bursar-cli").await;
    let headers = [("Bursar-Token", token.as_str()), ("Bursar-Person", "ana")];
    let path = format!(
        "GET /v1/namespaces/{}/storedtokens/github/revocation",
        team.namespace
    );
    // More at once than may begin at once and wait.
    let slowed_down = Notify::new();
    let flood = (0..2 * OF_SOURCE).map(async |number| {
        let source = IpAddr::from([127, 0, 9, 2 + u8::try_from(number / OF_SOURCE).unwrap()]);
        loop {
            let tcp = connect_from(&team, source).await;
            let Some((status, problem)) = team.ask_over(tcp, &path, &headers, "").await else {
                continue;
            };
            assert!([403, 429].contains(&status), "{problem}");
            if problem.to_string().contains("asks too often") {
                slowed_down.notify_one();
            }
        }
    });
    let revoked = async {
        tokio::time::timeout(LIMIT, slowed_down.notified())
            .await
            .expect("one account asks as often as it likes");
        team.bursar(&["revoke", "github"]).await.unwrap()
    };
    tokio::select! {
        _ = futures::future::join_all(flood) => unreachable!("a flood has no end"),
        revoked = revoked => assert!(revoked.success, "{}", revoked.out),
    }
}

#[tokio::test]
async fn the_tokens_of_one_namespace_do_not_have_all_places_to_wait_for_a_review() {
    // More than are reviewed in a second and may wait, and fewer than wait in all.
    const MANY: usize = 60;
    let (team, crowd) = (with_token().await, Team::new().await);
    crowd
        .testbed
        .create_service_account(&crowd.namespace, "nobody")
        .await
        .unwrap();
    let path = format!("GET /v1/namespaces/{}/denials/{ABSENT}", crowd.namespace);
    let crowded = until(LIMIT, PAUSE, async || {
        // What was reviewed once is not again; and all of them are ready before the first asks.
        let ready = (0..MANY).map(async |number| {
            let source = IpAddr::from([127, 0, 9, 4 + u8::try_from(number / OF_SOURCE).unwrap()]);
            let token = crowd.token_of("nobody", "bursar-cli").await;
            let tcp = connect_from(&team, source).await;
            Some((team.greet(tcp).await?, token))
        });
        let ready = futures::future::join_all(ready).await;
        let asked = ready.into_iter().flatten().map(async |(stream, token)| {
            let headers = [("Bursar-Token", token.as_str()), ("Bursar-Person", "ana")];
            let (_, problem) = ask_through(stream, &path, &headers, "").await?;
            let is_crowded = problem.to_string().contains("too many ask at once");
            is_crowded.then_some(())
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().next()
    });
    crowded
        .await
        .expect("one namespace has as many as it likes");
    assert!(team.bursar(&["revoke", "github"]).await.unwrap().success);
}
