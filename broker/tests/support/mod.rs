//! A broker in this process, with a vault, an issuer and a clock that the test
//! plays.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its part of this"
)]

pub mod books;
pub mod certificates;
pub mod cuttable;
pub mod http;
pub mod issuer;
pub mod service;
pub mod vault;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bursar_broker::clock::{BootTime, Clock, UnixMillis};
use bursar_broker::{Args, Sidecar, SidecarError};
use bursar_seal::SystemRandom;
use clap::Parser as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use self::http::{Answer, request, send};
use self::issuer::{Issuer, good_claims};
use self::vault::FakeVault;

/// The time of day when a test begins.
pub const NOW_SECONDS: i64 = 1_800_000_000;

/// A clock that the test moves.
#[derive(Clone)]
pub struct ManualClock {
    boot: Rc<Cell<BootTime>>,
    wall: Rc<Cell<UnixMillis>>,
}

impl ManualClock {
    fn new() -> Self {
        Self {
            boot: Rc::new(Cell::new(BootTime::after_boot(Duration::from_secs(10_000)))),
            wall: Rc::new(Cell::new(UnixMillis(NOW_SECONDS * 1_000))),
        }
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.boot.set(self.boot.get().plus(by));
        self.step_wall(i64::try_from(by.as_millis()).unwrap());
    }

    /// Somebody sets the time of day.
    pub fn step_wall(&self, by_millis: i64) {
        self.wall.set(UnixMillis(self.wall.get().0 + by_millis));
    }
}

impl Clock for ManualClock {
    fn boot(&self) -> BootTime {
        self.boot.get()
    }

    fn wall(&self) -> UnixMillis {
        self.wall.get()
    }
}

/// Everything one test needs.
pub struct Scene {
    pub vault: FakeVault,
    pub issuer: Issuer,
    pub clock: ManualClock,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// The pod's JWT.
    pub jwt: String,
    stop: RefCell<Option<oneshot::Sender<()>>>,
    running: RefCell<Option<JoinHandle<Result<(), SidecarError>>>>,
    _folder: TempDir,
}

/// Runs a test on the one thread that broker, vault and client share.
pub async fn scene<F: AsyncFnOnce(&mut Scene)>(test: F) {
    LocalSet::new()
        .run_until(async {
            let mut scene = Scene::start().await;
            test(&mut scene).await;
            let violations = scene.vault.state().violations.clone();
            assert!(violations.is_empty(), "{violations:#?}");
            if scene.running.borrow().is_some() {
                scene.drain().await.unwrap();
            }
        })
        .await;
}

impl Scene {
    async fn start() -> Self {
        let issuer = Issuer::new();
        let vault = FakeVault::start(issuer.jwks());
        let folder = tempfile::tempdir().unwrap();
        let (ca_file, token_file) = (folder.path().join("ca.crt"), folder.path().join("token"));
        std::fs::write(&ca_file, vault.ca_pem()).unwrap();
        std::fs::write(&token_file, "vault-token\n").unwrap();
        let args = Args::parse_from([
            "bursar-broker",
            "--vault",
            &vault.url(),
            "--ca-file",
            ca_file.to_str().unwrap(),
            "--token-file",
            token_file.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
        ]);
        let clock = ManualClock::new();
        let sidecar = Sidecar::bind(&args, Box::new(clock.clone()), Box::new(SystemRandom))
            .await
            .unwrap();
        let (address, admin) = (sidecar.addresses()[0], sidecar.admin_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = spawn_local(sidecar.run(async {
            let _ = stopped.await;
        }));
        let jwt = issuer.token(&good_claims(NOW_SECONDS));
        let scene = Self {
            vault,
            issuer,
            clock,
            address,
            admin,
            jwt,
            stop: RefCell::new(Some(stop)),
            running: RefCell::new(Some(running)),
            _folder: folder,
        };
        scene.until_ready().await;
        scene
    }

    /// Asks for a token as the pod's application does.
    pub async fn access(&self, user: &str, token: Option<&str>) -> Answer {
        self.access_for(user, token, "nightly sync").await
    }

    pub async fn access_for(&self, user: &str, token: Option<&str>, purpose: &str) -> Answer {
        let mut body = serde_json::json!({"user_id": user, "app_name": "ci", "purpose": purpose});
        if let Some(token) = token {
            body["token"] = token.into();
        }
        self.post(&self.jwt, &body.to_string()).await
    }

    /// Posts a body with a bearer token.
    pub async fn post(&self, jwt: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {jwt}");
        let headers = [
            ("Host", "localhost:9440"),
            ("Content-Type", "application/json"),
            ("Authorization", &*bearer),
        ];
        send(
            self.address,
            &request("POST", "/v1/tokens/access", &headers, body),
        )
        .await
    }

    pub async fn status(&self, user: &str) -> Answer {
        let bearer = format!("Bearer {}", self.jwt);
        let headers = [("Host", "localhost:9440"), ("Authorization", &*bearer)];
        let path = format!("/v1/tokens/status/{user}");
        send(self.address, &request("GET", &path, &headers, "")).await
    }

    pub async fn admin(&self, path: &str) -> Answer {
        send(
            self.admin,
            &request("GET", path, &[("Host", "localhost")], ""),
        )
        .await
    }

    /// Waits until the broker is attached and in sync.
    pub async fn until_ready(&self) {
        until("the broker is ready", async || {
            self.admin("/readyz").await.status == 200
        })
        .await;
    }

    /// Tells the broker to end, without waiting for it.
    pub fn stop(&self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits for the broker to have ended.
    pub async fn ended(&self) -> Result<(), SidecarError> {
        let running = self.running.take().unwrap();
        running.await.unwrap()
    }

    pub async fn drain(&self) -> Result<(), SidecarError> {
        self.stop();
        self.ended().await
    }
}

/// Waits for a condition, asking every few milliseconds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "still waiting for: {what}");
}

/// Asks for ana's token on one connection until the broker ends it; returns how
/// often it was given.
pub async fn hammer(address: SocketAddr, jwt: &str) -> u64 {
    let body = r#"{"user_id":"ana","token":"github","app_name":"ci","purpose":"sync"}"#;
    let bearer = format!("Bearer {jwt}");
    let headers = [
        ("Host", "localhost"),
        ("Content-Type", "application/json"),
        ("Authorization", &*bearer),
    ];
    let text = request("POST", "/v1/tokens/access", &headers, body);
    let text = String::from_utf8(text)
        .unwrap()
        .replace("Connection: close\r\n", "");
    let mut served = 0;
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return served;
    };
    loop {
        let mut answer = vec![0; 4096];
        if stream.write_all(text.as_bytes()).await.is_err() {
            return served;
        }
        match stream.read(&mut answer).await {
            Ok(0) | Err(_) => return served,
            Ok(length) if answer[..length].starts_with(b"HTTP/1.1 200 ") => served += 1,
            Ok(length) => panic!("{}", String::from_utf8_lossy(&answer[..length])),
        }
    }
}
