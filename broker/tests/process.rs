//! The program itself: its flags, its end, its logs, its memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar_broker::clock::{Clock as _, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use support::http::{Answer, request, send};
use support::issuer::{Issuer, good_claims};
use support::until;
use support::vault::FakeVault;

const BROKER: &str = env!("CARGO_BIN_EXE_bursar-broker");

/// A running program, killed when dropped.
struct Broker {
    process: Child,
    log: Arc<Mutex<String>>,
}

/// What a broker finds in its pod.
struct Pod {
    vault: FakeVault,
    issuer: Issuer,
    folder: TempDir,
}

impl Pod {
    fn new() -> Self {
        let issuer = Issuer::new();
        let vault = FakeVault::start(issuer.jwks());
        let pod = Self {
            vault,
            issuer,
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(pod.path("ca.crt"), pod.vault.ca_pem()).unwrap();
        std::fs::write(pod.path("token"), "vault-token").unwrap();
        pod
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("BURSAR_VAULT", self.vault.url())
            .env("BURSAR_CA_FILE", self.path("ca.crt"))
            .env("BURSAR_VAULT_TOKEN_FILE", self.path("token"))
            .env("BURSAR_BROKER_LISTEN", "127.0.0.1:0")
            .env("BURSAR_BROKER_METRICS_LISTEN", "127.0.0.1:0");
        command
    }

    fn start(&self, change: impl FnOnce(&mut Command)) -> Broker {
        self.start_program(Path::new(BROKER), change)
    }

    fn start_program(&self, program: &Path, change: impl FnOnce(&mut Command)) -> Broker {
        let mut command = self.command(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let written = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Broker { process, log }
    }

    async fn access(&self, broker: &Broker) -> Answer {
        let jwt = self
            .issuer
            .token(&good_claims(SystemClock.wall().seconds()));
        let bearer = format!("Bearer {jwt}");
        let headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Authorization", &*bearer),
        ];
        let body = r#"{"user_id":"ana","token":"github","app_name":"planted-app","purpose":"planted-purpose"}"#;
        let (address, _) = broker.addresses().await;
        send(
            address,
            &request("POST", "/v1/tokens/access", &headers, body),
        )
        .await
    }
}

impl Broker {
    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    async fn logged(&self, text: &str) {
        until(
            &format!("{text:?} in the log: {}", self.log()),
            async || self.log().contains(text),
        )
        .await;
    }

    /// For workloads, and for health.
    async fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.logged("listening").await;
        let log = self.log();
        let line = log.lines().find(|line| line.contains("listening")).unwrap();
        let fields = &serde_json::from_str::<Value>(line).unwrap()["fields"];
        let workloads = fields["addresses"].as_str().unwrap();
        let workloads = workloads.trim_matches(['[', ']']).parse().unwrap();
        (
            workloads,
            fields["admin_address"].as_str().unwrap().parse().unwrap(),
        )
    }

    async fn ready(&self) {
        let (_, admin) = self.addresses().await;
        let get = request("GET", "/readyz", &[("Host", "localhost")], "");
        until("the broker is ready", async || {
            send(admin, &get).await.status == 200
        })
        .await;
    }

    async fn terminate(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(60), self.process.wait());
        ended.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn told_to_end_it_reports_all_and_exits_with_0() {
    let pod = Pod::new();
    pod.vault.store("ana", "github", "s3cret");
    let mut broker = pod.start(|_| {});
    broker.ready().await;
    for _ in 0..5 {
        assert_eq!(pod.access(&broker).await.json()["token"], "s3cret");
    }
    assert!(broker.terminate().await.success(), "{}", broker.log());
    assert_eq!(pod.vault.recorded(), 5);
    assert!(pod.vault.open().is_empty());
}

#[tokio::test]
async fn told_to_end_without_a_vault_it_says_what_is_lost_and_fails() {
    let pod = Pod::new();
    pod.vault.store("ana", "github", "s3cret");
    let mut broker = pod.start(|_| {});
    broker.ready().await;
    assert_eq!(pod.access(&broker).await.status, 200);
    pod.vault.go_away();
    assert_eq!(broker.terminate().await.code(), Some(1));
    broker
        .logged("bursar-broker: 1 accesses were not reported")
        .await;
}

#[tokio::test]
async fn no_secret_and_no_claim_is_in_the_log_even_at_its_most_talkative() {
    let pod = Pod::new();
    pod.vault.store("ana", "github", "planted-value");
    let mut broker = pod.start(|command| {
        command.env("BURSAR_LOG_LEVEL", "trace");
    });
    broker.ready().await;
    assert_eq!(pod.access(&broker).await.json()["token"], "planted-value");
    pod.vault
        .until("a record", |state| !state.records.is_empty())
        .await;
    pod.vault.deny(
        "ana",
        Some("github"),
        bursar_wire::v1alpha1::denied::Code::Revoked,
    );
    pod.vault.recall_all();
    until("it is refused", async || {
        pod.access(&broker).await.status == 410
    })
    .await;
    let (address, _) = broker.addresses().await;
    let unknown = request(
        "POST",
        "/planted-path",
        &[("Host", "planted-host")],
        "planted-body",
    );
    assert_eq!(send(address, &unknown).await.status, 400);
    assert!(broker.terminate().await.success());
    broker.logged("all that was served is reported").await;
    let log = broker.log();
    assert!(
        log.contains("TRACE") && log.contains("refused"),
        "the log is talkative"
    );
    for planted in [
        "planted-value",
        "planted-app",
        "planted-purpose",
        "planted-host",
        "planted-path",
        "planted-body",
        "vault-token",
        "eyJ",
        "proof\"",
    ] {
        let line = log.lines().find(|line| line.contains(planted));
        assert_eq!(line, None, "{planted}");
    }
}

#[tokio::test]
async fn another_process_of_the_same_user_cannot_read_its_memory() {
    let pod = Pod::new();
    // Root reads everything, so as somebody else where that can be had.
    let program = pod.path("bursar-broker");
    std::fs::copy(BROKER, &program).unwrap();
    for path in [pod.folder.path(), &pod.path("ca.crt"), &pod.path("token")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let broker = pod.start_program(&program, |command| {
        if rustix::process::geteuid().is_root() {
            command.uid(65_534);
        }
    });
    broker.ready().await;
    let process = PathBuf::from(format!("/proc/{}", broker.process.id().unwrap()));
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let uid = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    assert_ne!(uid.split_whitespace().next(), Some("0"));
    // The kernel gives the files of a process that is not dumpable to root.
    assert_eq!(std::fs::metadata(process.join("environ")).unwrap().uid(), 0);
    assert_eq!(std::fs::metadata(process.join("mem")).unwrap().uid(), 0);
}

#[tokio::test]
async fn files_that_are_missing_are_waited_for_and_named() {
    let pod = Pod::new();
    std::fs::rename(pod.path("ca.crt"), pod.path("later")).unwrap();
    let broker = pod.start(|_| {});
    broker.logged("ca.crt").await;
    let (_, admin) = broker.addresses().await;
    let get = request("GET", "/readyz", &[("Host", "localhost")], "");
    assert_eq!(send(admin, &get).await.body, b"waiting for the vault\n");
    assert_eq!(pod.access(&broker).await.code(), "VaultUnavailable");
    std::fs::rename(pod.path("later"), pod.path("ca.crt")).unwrap();
    broker.ready().await;
}

#[tokio::test]
async fn a_vault_that_another_ca_vouches_for_is_not_trusted() {
    let pod = Pod::new();
    let other = support::certificates::Certificates::new();
    std::fs::write(pod.path("ca.crt"), &other.ca_pem).unwrap();
    let broker = pod.start(|_| {});
    broker.logged("certificate").await;
    assert_eq!(pod.vault.calls("Attach"), 0);
    // The file is read again at every attempt.
    std::fs::write(pod.path("ca.crt"), pod.vault.ca_pem()).unwrap();
    broker.ready().await;
}

#[tokio::test]
async fn a_server_with_another_name_is_not_the_vault() {
    let pod = Pod::new();
    let broker = pod.start(|command| {
        command.env("BURSAR_VAULT_NAME", "another.example.com");
    });
    until("two attempts have failed", async || {
        broker.log().matches("not attached").count() >= 2
    })
    .await;
    assert_eq!(pod.vault.calls("Attach"), 0);
}

#[tokio::test]
async fn why_it_cannot_attach_again_is_logged_once_until_it_can() {
    let pod = Pod::new();
    pod.vault.state().attach_again_ms = 50;
    let broker = pod.start(|_| {});
    broker.ready().await;
    for episode in 1..=2 {
        for refuse in [true, false] {
            pod.vault.refuse_tokens(refuse);
            let wanted = pod.vault.calls("Attach") + 3;
            pod.vault
                .until("more attaches", |state| state.calls["Attach"] >= wanted)
                .await;
        }
        let log = broker.log();
        let said = log.lines().filter(|line| {
            line.contains("attaching again failed") && line.contains("not this pod's token")
        });
        assert_eq!(said.count(), episode, "{log}");
    }
}

#[tokio::test]
async fn a_bad_flag_is_answered_with_a_sentence() {
    let pod = Pod::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (variable, value, sentence) in [
        (
            "BURSAR_BROKER_LISTEN",
            "0.0.0.0:9440",
            "loopback addresses only",
        ),
        ("BURSAR_BROKER_LISTEN", "localhost", "expected ADDRESS:PORT"),
        ("BURSAR_BROKER_LISTEN", &*taken, "in use"),
        ("BURSAR_LOG_LEVEL", "bursar_broker=loud", "--log-level"),
    ] {
        let mut command = pod.command(Path::new(BROKER));
        let ended = command.env(variable, value).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.contains(sentence),
            "{sentence}: {text}"
        );
    }
}
