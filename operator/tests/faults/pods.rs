//! Pods: one broker after another, and the ways to and from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bursar_testbed::{Dice, Process, Spec, free_port, until};
use tokio::sync::watch;

use crate::bed::{VAULT_NAME, is_ready, now};
use crate::books::Fate;
use crate::link::Link;
use crate::{LIMIT, PAUSE};

/// One answer in so many is lost between a broker and its application.
const LOST_ONE_IN: usize = 25;

/// Where an application finds the broker beside it.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) run: String,
    pub(crate) direct: SocketAddr,
    /// The same, with answers that get lost.
    pub(crate) lossy: SocketAddr,
}

/// One run of a broker.
pub(crate) struct Run {
    pub(crate) name: String,
    /// In seconds since the Unix epoch, by the clock that the database has too.
    pub(crate) started: f64,
    pub(crate) fate: Fate,
}

/// A pod that no kubelet runs.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) jwt: String,
    /// From its brokers to the replicas.
    pub(crate) vault: Link,
    pub(crate) doors: watch::Sender<Option<Door>>,
    pub(crate) runs: Vec<Run>,
    folder: PathBuf,
    /// What its clock of time since boot is ahead of the machine's.
    ahead: Option<Duration>,
    dice: Dice,
    process: Option<Process>,
    pages: u16,
}

impl Pod {
    pub(crate) async fn new(name: String, folder: PathBuf, jwt: String, mut dice: Dice) -> Self {
        let seed = dice.below(usize::MAX) as u64;
        Self {
            vault: Link::new(0, Dice::new(seed)).await,
            doors: watch::Sender::new(None),
            runs: Vec::new(),
            ahead: None,
            process: None,
            pages: 0,
            name,
            folder,
            jwt,
            dice,
        }
    }

    /// Its brokers have a clock of time since boot that is so far ahead.
    pub(crate) fn set_ahead(&mut self, ahead: Duration) {
        self.ahead = Some(ahead);
    }

    /// Starts its next broker, on the thread of the caller, and does not wait for it.
    pub(crate) async fn start(&mut self) {
        let (port, pages) = (free_port().unwrap(), free_port().unwrap());
        let program =
            Path::new(env!("CARGO_BIN_EXE_bursar-operator")).with_file_name("bursar-broker");
        assert!(program.is_file(), "run `cargo build --workspace` first");
        let log = self.folder.join("broker.log");
        let spec = match self.ahead {
            // A time namespace: what it sees is what a machine that booted earlier sees.
            Some(ahead) => Spec::new("bursar-broker", "unshare", log)
                .args(["--time", "--boottime", &ahead.as_secs().to_string()])
                .args(["--monotonic", &ahead.as_secs().to_string(), "--"])
                .arg(program),
            None => Spec::new("bursar-broker", program, log),
        };
        let vault = format!("https://{}", self.vault.address());
        let started = now();
        let process = spec
            .args(["--vault", &vault, "--vault-name", VAULT_NAME])
            .arg("--ca-file")
            .arg(self.folder.join("ca.crt"))
            .arg("--token-file")
            .arg(self.folder.join("vault-token"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{pages}")])
            .spawn()
            .unwrap();
        self.process = Some(process);
        self.pages = pages;

        let name = format!("{} run {}", self.name, self.runs.len() + 1);
        let direct = SocketAddr::from(([127, 0, 0, 1], port));
        let seed = self.dice.below(usize::MAX) as u64;
        // A way of its own: nothing that is meant for this run reaches another.
        let lossy = Link::new(LOST_ONE_IN, Dice::new(seed)).await;
        lossy.lead_to(vec![direct]);
        self.runs.push(Run {
            name: name.clone(),
            started,
            fate: Fate::default(),
        });
        self.doors.send_replace(Some(Door {
            run: name,
            direct,
            lossy: lossy.address(),
        }));
    }

    /// SIGKILL, and a new broker.
    pub(crate) async fn kill(&mut self) {
        self.process.as_mut().unwrap().kill();
        self.fate().killed = true;
        self.start().await;
    }

    /// SIGSTOP.
    pub(crate) fn pause(&mut self) {
        self.process.as_mut().unwrap().pause();
        self.fate().pauses += 1;
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        self.process.as_mut().unwrap().resume();
    }

    /// Waits until it can serve.
    pub(crate) async fn until_ready(&self) {
        let ready = until(LIMIT, PAUSE, async || {
            is_ready(self.pages).await.then_some(())
        });
        assert!(ready.await.is_some(), "{} is not ready", self.name);
    }

    /// SIGTERM: it must hand back all it has, and say that it did.
    pub(crate) async fn end(&mut self) {
        self.until_ready().await;
        let mut process = self.process.take().unwrap();
        process.stop();
        let status = process.exited();
        let log = self.folder.join("broker.log");
        assert!(
            status.is_some_and(|status| status.success()),
            "{} ended with {status:?}: {}",
            self.name,
            bursar_testbed::tail(&log)
        );
    }

    fn fate(&mut self) -> &mut Fate {
        &mut self.runs.last_mut().unwrap().fate
    }
}

/// Whether processes of ours may have clocks of their own.
pub(crate) fn can_shift_clocks() -> bool {
    let tried = Command::new("unshare")
        .args(["--time", "--boottime", "1", "--", "true"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}
