//! From revoking a token to the last moment a broker could serve it.

use std::time::Duration;

use bursar_testbed::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::commits::{Commits, CommitsError};
use crate::fleet::{self, FleetError};
use crate::row::{Row, Target};
use crate::simulated::{SimulatedError, Told, VaultAddress};
use crate::stats::Samples;
use crate::team::{Team, TeamError, USER};
use crate::workload::{Connection, WorkloadError};

const TOKENS: usize = 5;
/// A broker that has not heard by then has not heard at all: its lease is over.
const HEAR_LIMIT: Duration = Duration::from_secs(60);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The tokens are not there or cannot be revoked.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// The simulated brokers are not there.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// One of them failed later.
    #[error(transparent)]
    Broker(#[from] SimulatedError),
    /// A task of this program failed.
    #[error("a simulated broker's task failed: {0}")]
    Task(#[from] JoinError),
    /// The database does not tell of commits.
    #[error(transparent)]
    Commits(#[from] CommitsError),
    /// The real broker does not answer.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// Some brokers were never told, or could not answer.
    #[error(
        "of {brokers} brokers {stopped} had stopped serving a revoked token after {} s, and {closed} had told the vault",
        HEAR_LIMIT.as_secs()
    )]
    NotHeard {
        /// How many were attached.
        brokers: usize,
        /// How many had stopped.
        stopped: usize,
        /// How many had said so.
        closed: usize,
    },
    /// The real broker never served or never stopped.
    #[error("the broker beside them did not serve a token and then stop")]
    NotStopped,
}

/// Where a revocation is heard of.
struct Hears<'a> {
    brokers: usize,
    commits: &'a mut Commits,
    told: &'a mut UnboundedReceiver<Told>,
}

/// What one revocation has shown.
struct Observed {
    /// From the request to the API server until each simulated broker has stopped.
    to_stop: Vec<Duration>,
    /// The same from the commit in the vault's database, where it was heard of.
    commit_to_stop: Vec<Duration>,
    /// From the request until the real broker's last token.
    to_last_token: Duration,
}

/// Attaches `brokers` simulated ones, and revokes one token after the other.
///
/// # Errors
/// When a single broker cannot attach, hold an allowance, or does not hear.
pub async fn measure(
    testbed: &Handle,
    team: &Team,
    vault: &VaultAddress,
    database_url: &str,
    broker: &Broker,
    brokers: usize,
) -> Result<Vec<Row>, RevocationError> {
    let tokens: Vec<String> = (0..TOKENS)
        .map(|number| format!("revoked-{number}"))
        .collect();
    for token in &tokens {
        team.add_token(token, &format!("value-of-{token}")).await?;
    }
    eprintln!("bench: attaching {brokers} brokers, 20 a second ...");
    let fleet = fleet::attach(testbed, team.namespace(), vault, brokers).await?;
    eprintln!("bench: revoking {TOKENS} tokens that all of them hold ...");
    let fleet = fleet::hold(fleet, USER, &tokens).await?;

    let mut commits = Commits::listen(database_url).await?;
    let (teller, mut told) = unbounded_channel();
    let mut obeying = JoinSet::new();
    for broker in fleet {
        obeying.spawn(broker.obey(teller.clone()));
    }
    let mut observed = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let mut hears = Hears {
            brokers,
            commits: &mut commits,
            told: &mut told,
        };
        let revoked = revoke(team, broker, &mut hears, index, token).await;
        if revoked.is_err() {
            // A simulated broker that failed is the better explanation.
            while let Some(done) = obeying.try_join_next() {
                done??;
            }
        }
        observed.push(revoked?);
    }
    let mut retries = 0;
    while let Some(done) = obeying.join_next().await {
        retries += done??;
    }
    let mut rows = rows(&observed, brokers);
    rows.push(retries_row(retries, brokers));
    Ok(rows)
}

async fn revoke(
    team: &Team,
    broker: &Broker,
    hears: &mut Hears<'_>,
    index: usize,
    token: &str,
) -> Result<Observed, RevocationError> {
    let mut workload = Connection::open(broker.address()).await?;
    let (bearer, body) = (broker.bearer(), Broker::access_body(token));
    // Serving before the revocation, so that there is something to stop.
    if !workload.access(bearer, &body).await?.status.is_success() {
        return Err(RevocationError::NotStopped);
    }
    let start = Instant::now();
    let (revoked, last_token, all_stopped) = tokio::join!(
        team.revoke(token, 1),
        last_token(&mut workload, bearer, &body),
        stops(hears.told, hears.brokers, index),
    );
    revoked?;
    let (last_token, all_stopped) = (last_token?, all_stopped?);
    let since = |start: Instant| all_stopped.iter().map(move |at| at.duration_since(start));
    Ok(Observed {
        to_stop: since(start).collect(),
        commit_to_stop: hears
            .commits
            .first_since(start)
            .map(|at| since(at).collect())
            .unwrap_or_default(),
        to_last_token: last_token.duration_since(start),
    })
}

/// When each broker stopped serving the token with this index. Returns only when
/// all of them have told the vault, so that the next revocation finds it at rest.
async fn stops(
    told: &mut UnboundedReceiver<Told>,
    brokers: usize,
    index: usize,
) -> Result<Vec<Instant>, RevocationError> {
    let mut stopped = Vec::with_capacity(brokers);
    let mut closed = 0;
    let listen = async {
        while closed < brokers {
            match told.recv().await {
                Some(Told::Stopped(token, at)) if token == index => stopped.push(at),
                Some(Told::Closed(token)) if token == index => closed += 1,
                Some(_) => {}
                None => return,
            }
        }
    };
    // Whether in time or not, what counts is how many have been heard of.
    let _ = tokio::time::timeout(HEAR_LIMIT, listen).await;
    if closed < brokers {
        return Err(RevocationError::NotHeard {
            brokers,
            stopped: stopped.len(),
            closed,
        });
    }
    Ok(stopped)
}

/// Asks again and again; when the last answer with a token was read.
async fn last_token(
    workload: &mut Connection,
    bearer: &str,
    body: &str,
) -> Result<Instant, RevocationError> {
    let ask = async {
        let mut last = None;
        while workload.access(bearer, body).await?.status.is_success() {
            last = Some(Instant::now());
            // Often enough for a figure in milliseconds, and not a load of its own.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        last.ok_or(RevocationError::NotStopped)
    };
    tokio::time::timeout(HEAR_LIMIT, ask)
        .await
        .map_err(|_| RevocationError::NotStopped)?
}

/// Calls that are made again succeed in the end: without this row nobody would see them.
fn retries_row(retries: u64, brokers: usize) -> Row {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let retries = retries as f64;
    Row::new(format!("retries of {brokers} brokers"), retries, "calls")
        .target(Target::AtMost(0.0))
        .how("grants and reports that the vault answered with UNAVAILABLE, from attach to the end")
}

fn rows(observed: &[Observed], brokers: usize) -> Vec<Row> {
    let how = format!("{TOKENS} revocations; simulated brokers over the real protocol");
    let mut rows = Vec::new();
    let mut percentiles = |name: &str, samples: Option<Samples>, target: Option<Target>| {
        let Some(samples) = samples else { return };
        let row = |percent| {
            Row::new(
                format!("{name}, {brokers} brokers, p{percent}"),
                samples.percentile(percent),
                "ms",
            )
            .how(how.clone())
        };
        rows.push(row(50));
        rows.push(match target {
            Some(target) => row(99).target(target),
            None => row(99),
        });
    };
    let of = |figures: fn(&Observed) -> &Vec<Duration>| {
        Samples::of_milliseconds(observed.iter().flat_map(figures).copied())
    };
    percentiles(
        "revocation to last serve",
        of(|one| &one.to_stop),
        Some(Target::Below(1_000.0)),
    );
    percentiles(
        "commit of a revocation to last serve",
        of(|one| &one.commit_to_stop),
        None,
    );
    let real = Samples::of_milliseconds(observed.iter().map(|one| one.to_last_token));
    rows.extend(real.map(|samples| {
        Row::new(
            "revocation to last token of a real broker among them, p50",
            samples.median(),
            "ms",
        )
        .how(format!(
            "{TOKENS} revocations; asked over HTTP every millisecond"
        ))
    }));
    rows
}
