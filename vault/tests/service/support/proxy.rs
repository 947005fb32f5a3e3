//! A way to Postgres that can fall silent, as a broken network does.

use bursar_testbed::Database;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to Postgres.
pub(crate) struct Proxy {
    port: u16,
    silence: watch::Sender<()>,
}

impl Proxy {
    pub(crate) async fn start(database: &Database) -> Self {
        let to = authority(&database.runtime_url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silence, _) = watch::channel(());
        let silenced = silence.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = TcpStream::connect(&to).await.unwrap();
                let mut silenced = silenced.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both stay open, and neither hears of the other again.
                        _ = silenced.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, silence }
    }

    /// The same URL by way of this proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let authority = authority(url);
        let host = authority.rsplit_once(':').unwrap().0;
        url.replacen(authority, &format!("{host}:{}", self.port), 1)
    }

    /// From now on nothing passes on the connections there are; new ones work.
    pub(crate) fn fall_silent(&self) {
        self.silence.send_replace(());
    }
}

/// `HOST:PORT` of a URL with a user.
fn authority(url: &str) -> &str {
    let behind_user = url.split_once('@').unwrap().1;
    behind_user.split('/').next().unwrap()
}
