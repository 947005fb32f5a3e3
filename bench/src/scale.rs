//! How many reports a second one vault and one Postgres take, from few and from many
//! brokers.
//!
//! The vault is the product's, in a process and with a database of its own, over real
//! TLS; brokers are simulated, each with a pod's token, a connection, a watch and an
//! allowance of its own. Each sends its next report when the one before is acknowledged,
//! so that there is no more to be had than what is measured.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_testbed::{DatabaseError, Handle, Process, ProcessError, Spec};
use bursar_wire::tls::{self, TlsError};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::load::{Load, LoadError, Watch};
use crate::row::Row;
use crate::simulated::{SimulatedBroker, SimulatedError, VaultAddress};
use crate::stats::{Samples, milliseconds};

/// The name in the vault's certificate.
pub const SERVER_NAME: &str = "bursar-vault.bench";
/// Where all pods are.
pub const NAMESPACE: &str = "scale";
/// What they run as.
pub const SERVICE_ACCOUNT: &str = "app";
/// Whose token it is.
pub const USER: &str = "ana";
/// The token.
pub const TOKEN: &str = "github";
/// The vault's connections to its database: as many as in the operator.
pub const VAULT_CONNECTIONS: u32 = 24;

/// Records in one report.
const RECORDS: [u32; 2] = [1, 10];
const WARM_UP: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(10);
/// Brokers that attach at the same time: the vault lets 100 of one address wait.
const ATTACHING_AT_ONCE: usize = 50;
const START_LIMIT: Duration = Duration::from_secs(120);
/// The program beside this one.
const PROGRAM: &str = "vault";

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file cannot be read or written.
    #[error("cannot exchange files with the vault: {0}")]
    File(#[from] io::Error),
    /// The vault's files are not what they should be.
    #[error("cannot read what the vault has written: {0}")]
    Json(#[from] serde_json::Error),
    /// The vault does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The vault's CA is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A broker failed.
    #[error(transparent)]
    Broker(#[from] SimulatedError),
    /// Nobody knows how busy it was.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What the vault says when it serves. The tokens are good for an hour, at this vault
/// alone: hence no `Debug`.
#[derive(Serialize, Deserialize)]
pub struct Ready {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Its CA, PEM.
    pub ca: String,
    /// A token for each pod.
    pub pod_tokens: Vec<String>,
}

/// A vault that is running.
struct Running {
    process: Process,
    database_url: String,
    address: VaultAddress,
    pod_tokens: Vec<String>,
}

/// What came of one round.
struct Round {
    records: u32,
    seconds: f64,
    /// Time from sending each report until it was acknowledged, in milliseconds.
    took: Samples,
    retries: u64,
    load: Load,
}

/// Measures with as many brokers as `counts` says, in rising order.
///
/// # Errors
/// When the vault does not run or refuses what it should take.
pub async fn measure(testbed: &Handle, counts: &[usize]) -> Result<Vec<Row>, ScaleError> {
    let most = counts.iter().copied().max().unwrap_or_default();
    let vault = Running::start(testbed, most).await?;
    let mut rows = Vec::new();
    let mut brokers = Vec::new();
    for &count in counts {
        rows.extend(vault.attach(&mut brokers, count).await?);
        for records in RECORDS {
            eprintln!("bench: reports of {count} brokers, {records} records each ...");
            let Some(round) = vault.round(&mut brokers, records).await? else {
                continue;
            };
            rows.extend(round.rows(count));
        }
    }
    Ok(rows)
}

impl Running {
    async fn start(testbed: &Handle, pods: usize) -> Result<Self, ScaleError> {
        let database = testbed.database("scale").await?;
        // The testbed's folder is private and goes with it.
        let folder = testbed.folder().join("scale");
        fs::create_dir(&folder)?;
        fs::write(folder.join("database-url"), &database.runtime_url)?;
        let mut process = Spec::new("vault", program()?, folder.join("vault.log"))
            .arg("--folder")
            .arg(&folder)
            .args(["--pods", &pods.to_string()])
            .spawn()?;
        let ready = folder.join("ready.json");
        process
            .wait_until("the vault", START_LIMIT, async || {
                ready.exists().then_some(())
            })
            .await?;
        let ready = read(&ready)?;
        Ok(Self {
            process,
            database_url: database.superuser_url,
            address: VaultAddress {
                url: format!("https://127.0.0.1:{}", ready.port),
                server_name: SERVER_NAME.to_owned(),
                tls: tls::client_config(ready.ca.as_bytes())?,
            },
            pod_tokens: ready.pod_tokens,
        })
    }

    /// Attaches brokers until there are `count`, and lets each take an allowance.
    async fn attach(
        &self,
        brokers: &mut Vec<SimulatedBroker>,
        count: usize,
    ) -> Result<Option<Row>, ScaleError> {
        let begun = Instant::now();
        let there = brokers.len();
        let missing = self.pod_tokens.iter().take(count).skip(there);
        let attaching = stream::iter(missing).map(async |token| {
            let mut broker = SimulatedBroker::attach(&self.address, token).await?;
            broker.report_served(USER, TOKEN, 1).await?;
            Ok::<_, SimulatedError>(broker)
        });
        let attached = attaching.buffer_unordered(ATTACHING_AT_ONCE);
        brokers.extend(attached.try_collect::<Vec<_>>().await?);
        let new = brokers.len() - there;
        if new == 0 {
            return Ok(None);
        }
        let rate = float(new) / begun.elapsed().as_secs_f64();
        Ok(Some(
            Row::new(
                format!("brokers that attach in a second, up to {count}"),
                rate,
                "attaches/s",
            )
            .how("no API server asked; TLS, attach, watch, a grant and a report each"),
        ))
    }

    /// Lets every broker report as fast as it is acknowledged.
    async fn round(
        &self,
        brokers: &mut [SimulatedBroker],
        records: u32,
    ) -> Result<Option<Round>, ScaleError> {
        let retries = |brokers: &[SimulatedBroker]| -> u64 {
            brokers.iter().map(SimulatedBroker::retries).sum()
        };
        report_for(brokers, records, WARM_UP).await?;
        let before = retries(brokers);
        let watch = Watch::start(&self.database_url, self.process.id()).await?;
        let (took, seconds) = report_for(brokers, records, ROUND).await?;
        let load = watch.end().await?;
        Ok(Samples::new(took).map(|took| Round {
            records,
            seconds,
            took,
            retries: retries(brokers) - before,
            load,
        }))
    }
}

/// All brokers report until `time` is over; each ends with an acknowledgement. Gives how
/// long each report took, in milliseconds, and how long all together, in seconds.
async fn report_for(
    brokers: &mut [SimulatedBroker],
    records: u32,
    time: Duration,
) -> Result<(Vec<f64>, f64), SimulatedError> {
    let begun = Instant::now();
    let took = RefCell::new(Vec::new());
    let last = Cell::new(begun);
    let reporting = brokers.iter_mut().map(async |broker| {
        loop {
            let sent = Instant::now();
            if sent - begun >= time {
                return Ok::<_, SimulatedError>(());
            }
            broker.report_served(USER, TOKEN, records).await?;
            took.borrow_mut().push(milliseconds(sent.elapsed()));
            last.set(Instant::now());
        }
    });
    try_join_all(reporting).await?;
    Ok((took.into_inner(), (last.get() - begun).as_secs_f64()))
}

impl Round {
    fn rows(&self, brokers: usize) -> [Row; 3] {
        let reports = float(self.took.count()) / self.seconds;
        let what = match self.records {
            1 => format!("{brokers} brokers, 1 record each"),
            many => format!("{brokers} brokers, {many} records each"),
        };
        let how = self.load.in_words(VAULT_CONNECTIONS);
        [
            Row::new(format!("reports a second, {what}"), reports, "reports/s").how(how),
            Row::new(
                format!("audit rows a second, {what}"),
                reports * f64::from(self.records),
                "rows/s",
            )
            .how("of the same round, as acknowledged"),
            Row::new(
                format!("report to acknowledgement, {what}, p99"),
                self.took.percentile(99),
                "ms",
            )
            .how(format!(
                "p50 {:.1} ms; {} calls made again",
                self.took.median(),
                self.retries
            )),
        ]
    }
}

fn read(file: &Path) -> Result<Ready, ScaleError> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

/// The program, which cargo builds beside this one and alike.
fn program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn float(number: usize) -> f64 {
    number as f64
}
