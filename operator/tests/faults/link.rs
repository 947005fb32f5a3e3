//! A way between two processes on which answers get lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar_testbed::Dice;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Carries bytes between its own port and its targets, in turn.
#[derive(Clone)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    targets: Mutex<Vec<SocketAddr>>,
    turn: Mutex<usize>,
    /// While true, what servers say gets lost, and with it the connection.
    deaf: watch::Sender<bool>,
    /// One connection in so many loses its answer; 0: none does.
    one_in: usize,
    dice: Mutex<Dice>,
}

impl Link {
    /// A way to nowhere yet; lives as long as the runtime it is made in.
    pub(crate) async fn new(one_in: usize, dice: Dice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            turn: Mutex::default(),
            deaf: watch::Sender::new(false),
            one_in,
            dice: Mutex::new(dice),
        });
        tokio::spawn(carry_all(listener, Arc::clone(&shared)));
        Self { address, shared }
    }

    /// Leads connections to come to these, in turn.
    pub(crate) fn lead_to(&self, targets: Vec<SocketAddr>) {
        *self.shared.targets.lock().unwrap() = targets;
    }

    /// Its end that clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For so long, what is asked arrives and what is answered does not; then all
    /// connections that were there end.
    pub(crate) async fn lose_answers(&self, time: Duration) {
        self.shared.deaf.send_replace(true);
        tokio::time::sleep(time).await;
        self.shared.deaf.send_replace(false);
    }
}

impl Shared {
    fn target(&self) -> Option<SocketAddr> {
        let targets = self.targets.lock().unwrap();
        let mut turn = self.turn.lock().unwrap();
        *turn += 1;
        let place = turn.checked_rem(targets.len())?;
        Some(targets[place])
    }

    fn loses(&self) -> bool {
        self.one_in > 0 && self.dice.lock().unwrap().one_in(self.one_in)
    }
}

async fn carry_all(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if let Some(target) = shared.target() {
            let (loses, deaf) = (shared.loses(), shared.deaf.subscribe());
            tokio::spawn(carry(client, target, loses, deaf));
        }
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    loses: bool,
    mut deaf: watch::Receiver<bool>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = copy(&mut from_client, &mut to_server);
    let back = async {
        if loses {
            // The answer is there: it was counted, written, and never arrives.
            let _ = from_server.peek(&mut [0]).await;
            return;
        }
        let until_deaf = async {
            let _ = deaf.wait_for(|deaf| *deaf).await;
        };
        tokio::select! {
            _ = copy(&mut from_server, &mut to_client) => return,
            () = until_deaf => {}
        }
        let _ = deaf.wait_for(|deaf| !*deaf).await;
    };
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
}
