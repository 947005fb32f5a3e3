//! The way to Postgres, or to a vault, which can be cut and laid elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Carries bytes between its own port and its target, while it is whole.
#[derive(Clone)]
pub(crate) struct Cable {
    whole: Arc<watch::Sender<bool>>,
    target: Arc<watch::Sender<SocketAddr>>,
    port: u16,
}

impl Cable {
    /// A cable to `target`; lives as long as the runtime it is made in.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let whole = Arc::new(watch::Sender::new(true));
        let target = Arc::new(watch::Sender::new(target));
        tokio::spawn(carry_all(listener, target.subscribe(), whole.subscribe()));
        Self {
            whole,
            target,
            port,
        }
    }

    /// Lays its other end elsewhere, for connections to come.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Its end that clients connect to, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections, and lets none through for as long as the cut is held.
    pub(crate) fn cut(&self) -> Cut<'_> {
        self.whole.send_replace(false);
        Cut(self)
    }
}

/// A cut cable, mended when dropped: also by a test that fails.
pub(crate) struct Cut<'a>(&'a Cable);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.0.whole.send_replace(true);
    }
}

async fn carry_all(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    whole: watch::Receiver<bool>,
) {
    while let Ok((client, _)) = listener.accept().await {
        // One that is not let through is closed at once.
        if *whole.borrow() {
            let target = *target.borrow();
            tokio::spawn(carry(client, target, whole.clone()));
        }
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
