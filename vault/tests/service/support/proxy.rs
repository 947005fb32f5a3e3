//! A way to Postgres that can fall silent, as a broken network does, and that counts
//! what is asked over it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bursar_testbed::Database;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A `Sync` alone, in a record of TLS 1.3: 5 bytes of it, its type, a header of 5 and
/// a tag of 16. With it the pool asks whether a connection works.
const PING: usize = 27;

/// Passes connections on to Postgres.
pub(crate) struct Proxy {
    port: u16,
    silence: watch::Sender<()>,
    questions: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(database: &Database) -> Self {
        let to = authority(&database.runtime_url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silence, _) = watch::channel(());
        let silenced = silence.clone();
        let questions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&questions);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&to).await.unwrap();
                let mut silenced = silenced.subscribe();
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = pass_on(near, far, &counted) => {}
                        // Both stay open, and neither hears of the other again.
                        _ = silenced.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self {
            port,
            silence,
            questions,
        }
    }

    /// How often something was asked and an answer waited for, so far.
    pub(crate) fn questions(&self) -> u64 {
        self.questions.load(Ordering::SeqCst)
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

/// Passes bytes on both ways, until one side ends. Whatever is sent after an answer is
/// a question.
async fn pass_on(near: TcpStream, far: TcpStream, questions: &AtomicU64) -> io::Result<()> {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let asked = AtomicBool::new(false);
    let there = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_near.read(&mut bytes).await?;
            if !asked.swap(true, Ordering::SeqCst) && read != PING {
                questions.fetch_add(1, Ordering::SeqCst);
            }
            if read == 0 {
                return to_far.shutdown().await;
            }
            to_far.write_all(&bytes[..read]).await?;
        }
    };
    let back = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let read = from_far.read(&mut bytes).await?;
            asked.store(false, Ordering::SeqCst);
            if read == 0 {
                return to_near.shutdown().await;
            }
            to_near.write_all(&bytes[..read]).await?;
        }
    };
    tokio::try_join!(there, back).map(drop)
}

/// `HOST:PORT` of a URL with a user.
fn authority(url: &str) -> &str {
    let behind_user = url.split_once('@').unwrap().1;
    behind_user.split('/').next().unwrap()
}
