//! Two processes of one vault, of which the one that serves is killed.

use std::net::SocketAddr;

use bursar_crds::StoredToken;
use bursar_crds::reasons::ConditionType::Usable;
use bursar_testbed::{Sidecar, free_port, until};
use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attach::with_pod;
use crate::cable::Cable;
use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE};
use crate::team::Team;

/// The application of a pod, which reads tokens from the broker beside it.
struct Application {
    broker: SocketAddr,
    jwt: String,
}

impl Application {
    fn of(sidecar: &Sidecar) -> Self {
        Self {
            broker: sidecar
                .url()
                .strip_prefix("http://")
                .unwrap()
                .parse()
                .unwrap(),
            jwt: std::fs::read_to_string(sidecar.token_file()).unwrap(),
        }
    }

    /// One access: the status of the answer, and its text.
    async fn access(&self, token: &str) -> (u16, String) {
        let body = json!({ "user_id": "ana", "app_name": "ci", "purpose": "sync", "token": token });
        let body = body.to_string();
        let request = format!(
            "POST /v1/tokens/access HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.broker,
            self.jwt.trim(),
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(self.broker).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// Reads a token until it is revoked; how often it was served.
    async fn read_until_revoked(&self, token: &str) -> i64 {
        let mut served = 0;
        loop {
            match self.access(token).await {
                (200, _) => served += 1,
                (_, answer) if answer.contains("TokenRevoked") => return served,
                // What the broker holds is used up while no vault is there.
                (status, answer) => assert_eq!(status, 503, "{answer}"),
            }
            // So that some of it is left when the vault goes.
            tokio::time::sleep(PAUSE / 5).await;
        }
    }
}

async fn store(team: &Team, token: &str) {
    team.secret(token, &format!("planted-{token}")).await;
    team.token(token, "ana").await;
    team.serving(token, 1).await;
}

#[tokio::test]
async fn a_broker_leaves_a_killed_vault_process_for_another_and_hears_what_was_revoked_meanwhile() {
    let team = with_pod().await;
    store(&team, "github").await;
    let rows = Rows::of(&team.namespace).await;
    let port = free_port().unwrap();
    let mut second = team.operator.vault_process(port).await;
    // As the vault's Service is: one address, whichever process is behind it.
    let service = Cable::to(([127, 0, 0, 1], port).into()).await;
    let url = format!("https://127.0.0.1:{}", service.port());
    let folder = team.testbed.folder().join("replicas-pod");
    let sidecar = Sidecar::start(&team.testbed, &url, &team.namespace, "pod", &folder);
    let sidecar = sidecar.await.unwrap();
    let application = Application::of(&sidecar);

    let clients = join_all((0..4).map(|_| application.read_until_revoked("github")));
    let revoke = async {
        let reported = until(LIMIT, PAUSE, async || {
            (rows.served().await > 0).then_some(())
        });
        assert!(reported.await.is_some());
        // SIGKILL.
        second.kill().await.unwrap();
        let revoked = json!({ "revocation": { "throughVersion": 1 } });
        team.token_with("github", "ana", revoked).await;
        team.wait::<StoredToken>("github", Usable, "False RevokedBySpec")
            .await;
        assert!(rows.open_allowances().await > 0, "the broker has not heard");
        service.lead_to(team.operator.vault_address());
        let closed = until(LIMIT, PAUSE, async || {
            (rows.open_allowances().await == 0).then_some(())
        });
        assert!(closed.await.is_some());
        rows.served().await
    };
    let (served, at_close) = tokio::join!(clients, revoke);
    let served: i64 = served.iter().sum();
    assert_eq!((at_close, rows.served().await), (served, served));
    assert_eq!(rows.unaccounted().await, 0);

    // The process that is left serves what the broker never had.
    store(&team, "slack").await;
    let (status, answer) = application.access("slack").await;
    assert_eq!(status, 200, "{answer}");
}
