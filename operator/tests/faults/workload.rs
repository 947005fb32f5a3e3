//! Applications that read tokens as fast as they get them, and keep a journal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_testbed::Dice;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bed::{Bed, TOKENS, now};
use crate::books::purpose;
use crate::journal::{Ask, Outcome, Shared};
use crate::pods::Door;

/// Clients of each broker.
const CLIENTS: u64 = 3;
/// An application does not wait longer for its broker.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two accesses.
const PACE: Duration = Duration::from_millis(10);
/// After one that brought nothing.
const REST: Duration = Duration::from_millis(60);

/// All of them.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Lets them finish what is under way.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

/// Sets them to work.
pub(crate) fn start(bed: &Bed) -> Load {
    let stop = watch::Sender::new(false);
    let mut clients = Vec::new();
    for (place, pod) in (0..).zip(&bed.pods) {
        for number in 0..CLIENTS {
            let client = Client {
                doors: pod.doors.subscribe(),
                jwt: pod.jwt.clone(),
                journal: Arc::clone(&bed.journal),
                dice: Dice::new(bed.seed ^ (place * CLIENTS + number)),
                is_direct: number == 0,
            };
            clients.push(tokio::spawn(client.run(stop.subscribe())));
        }
    }
    Load { stop, clients }
}

struct Client {
    doors: watch::Receiver<Option<Door>>,
    jwt: String,
    journal: Arc<Shared>,
    dice: Dice,
    /// No answer gets lost on its way to this one.
    is_direct: bool,
}

impl Client {
    async fn run(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let (token, user) = TOKENS[self.dice.below(TOKENS.len())];
            let door = self.doors.borrow().clone();
            let Some(door) = door else {
                tokio::time::sleep(REST).await;
                continue;
            };
            let ask = Ask {
                run: door.run.clone(),
                token: token.to_owned(),
                second: now() as i64,
            };
            let address = if self.is_direct {
                door.direct
            } else {
                door.lossy
            };
            let asked = tokio::time::timeout(PATIENCE, self.access(address, &ask, user));
            let outcome = asked.await.unwrap_or(Outcome::Lost);
            let received = matches!(outcome, Outcome::Received { .. });
            self.journal.note(ask, outcome, now() as i64);
            tokio::time::sleep(if received { PACE } else { REST }).await;
        }
    }

    async fn access(&self, broker: SocketAddr, ask: &Ask, user: &str) -> Outcome {
        let Ok(mut stream) = TcpStream::connect(broker).await else {
            return Outcome::NotAsked;
        };
        let body = json!({
            "user_id": user,
            "token": ask.token,
            "app_name": ask.run,
            "purpose": purpose(ask.second),
        })
        .to_string();
        let request = format!(
            "POST /v1/tokens/access HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.jwt,
            body.len()
        );
        let mut answer = Vec::new();
        let exchanged = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_end(&mut answer).await
        };
        match exchanged.await {
            Ok(_) => read(&answer).unwrap_or(Outcome::Lost),
            Err(_) => Outcome::Lost,
        }
    }
}

/// What an answer says; nothing unless it is whole.
fn read(answer: &[u8]) -> Option<Outcome> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    let body: Value = serde_json::from_str(body).ok()?;
    Some(if status == "200" {
        Outcome::Received {
            version: i32::try_from(body["version"].as_i64()?).ok()?,
            value: body["token"].as_str()?.to_owned(),
        }
    } else {
        Outcome::Refused(format!("{status} {}", body["code"].as_str()?))
    })
}
