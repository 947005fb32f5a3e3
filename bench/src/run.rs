//! One run: the product is installed, measured and taken away again.

use std::io;
use std::time::Duration;

use bursar_testbed::{BursarError, Handle, HandleError, Operator};
use bursar_wire::tls::{self, TlsError};

use crate::answer::{Answer, AnswerError};
use crate::bare::{self, Bare, BareError};
use crate::broker::{Broker, BrokerError, Pod};
use crate::calls::{Calls, CallsError};
use crate::hot_path::{self, CONNECTIONS, Pair, in_words};
use crate::memory::{self, MemoryError};
use crate::misses::{self, MissesError};
use crate::revocation::{self, RevocationError};
use crate::row::{Row, Target};
use crate::scale::ScaleError;
use crate::secret_change::{self, ChangeError};
use crate::shared_quota::SharedQuotaError;
use crate::simulated::VaultAddress;
use crate::team::{SERVICE_ACCOUNT, Team, TeamError};
use crate::workload::{ACCESS_PATH, Connection, WorkloadError};
use crate::wrk::{Request, Wrk, WrkError};
use crate::{limits, machine, scale, shared_quota, startup};

const NAMESPACE: &str = "bench";
const POD: &str = "bench";
/// One whose broker serves nothing but the token with a quota: its peak is that of this
/// load alone.
const COUNTED_POD: &str = "bench-counted";
/// The token that is asked for again and again.
const TOKEN: &str = "hot";
const VALUE: &str = "a-value-as-long-as-many-a-real-token";
/// The same with a quota that has plenty left.
const COUNTED_TOKEN: &str = "counted";
const PLENTY: u64 = 1_000_000_000_000;
/// The name in the vault's certificate: that of its Service.
const VAULT_NAME: &str = "bursar-vault.bursar-system.svc";
/// A whole run takes half of it.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// A broker is idle when nobody has asked it for anything for this long.
const IDLE: Duration = Duration::from_secs(5);

/// Why the run was given up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No operator.
    #[error(transparent)]
    Bursar(#[from] BursarError),
    /// An object is missing.
    #[error(transparent)]
    Cluster(#[from] HandleError),
    /// A user or token is missing.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// No broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker does not answer.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The broker refuses what it should serve.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// No bare server.
    #[error(transparent)]
    Bare(#[from] BareError),
    /// No load.
    #[error(transparent)]
    Wrk(#[from] WrkError),
    /// The broker's memory is unknown.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The calls are unknown.
    #[error(transparent)]
    Calls(#[from] CallsError),
    /// Row on misses.
    #[error(transparent)]
    Misses(#[from] MissesError),
    /// Row on changed Secrets.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Row on revocations.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// Rows on a quota that many pods share.
    #[error(transparent)]
    SharedQuota(#[from] SharedQuotaError),
    /// Rows on many brokers.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// The CA is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system does not let this program do its work.
    #[error("cannot open enough files, or find the bare server: {0}")]
    System(#[from] io::Error),
    /// Something hangs.
    #[error("the benchmarks took longer than {} minutes", LIMIT.as_secs() / 60)]
    TooSlow,
}

/// What is running and can be measured.
struct Scene<'a> {
    testbed: &'a Handle,
    operator: &'a Operator,
    team: Team,
    pod: Pod,
    counted_pod: Pod,
}

/// A part of a run that can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The broker's start.
    Start,
    /// Memory, the hot path and misses.
    Load,
    /// Changes of a Secret.
    Change,
    /// Revocations.
    Revocation,
    /// The last tenth of a quota that many pods share.
    Quota,
    /// Reports of many brokers.
    Scale,
}

/// What is measured, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Measure this part alone
    #[arg(long, value_name = "PART")]
    pub only: Option<Part>,
    /// How many brokers are attached when a token is revoked
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    pub brokers: usize,
    /// How many pods share a quota
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub pods: usize,
    /// How many simulated brokers report at once, in rising order
    #[arg(long, value_name = "COUNTS", value_delimiter = ',',
        default_values_t = [10, 100, 1_000, 10_000])]
    pub reporting: Vec<usize>,
}

/// Measures what is planned on the testbed that `testbed exec` has started around this
/// process.
///
/// Call this on the main thread: the processes it starts end when that thread does.
///
/// # Panics
/// When there is no testbed.
///
/// # Errors
/// When anything fails: a run has all its rows or none.
pub async fn run(plan: Plan) -> Result<Vec<Row>, RunError> {
    tokio::time::timeout(LIMIT, measure(plan))
        .await
        .map_err(|_| RunError::TooSlow)?
}

async fn measure(plan: Plan) -> Result<Vec<Row>, RunError> {
    limits::raise_open_files()?;
    let mut rows = vec![machine::row()];
    let testbed = bursar_testbed::shared();
    let operator = Operator::start(&testbed).await?;
    let scene = Scene::set(&testbed, &operator).await?;

    let asked_for = |part| plan.only.is_none_or(|only| only == part);
    if asked_for(Part::Start) {
        rows.extend(startup::measure(&scene.pod).await?);
    }
    let broker = Broker::start(&scene.pod).await?;
    if asked_for(Part::Load) {
        rows.extend(scene.under_load(&broker).await?);
    }
    if asked_for(Part::Change) {
        rows.extend(secret_change::measure(&scene.team, &broker).await?);
    }
    if asked_for(Part::Revocation) {
        rows.extend(scene.revocation(&broker, plan.brokers).await?);
    }
    if asked_for(Part::Quota) {
        let place = shared_quota::Place {
            testbed: scene.testbed,
            team: &scene.team,
            vault_url: &scene.operator.vault_url(),
            database_url: scene.database_url(),
        };
        rows.extend(shared_quota::measure(place, &broker, plan.pods).await?);
    }
    if asked_for(Part::Scale) {
        rows.extend(scale::measure(scene.testbed, &plan.reporting).await?);
    }
    Ok(rows)
}

/// A token that is asked for as fast as can be.
struct HotToken {
    name: &'static str,
    /// What the rows are called.
    path: &'static str,
    memory: &'static str,
    quota: &'static str,
    calls_below: f64,
    connections: &'static [u32],
    with_control: bool,
}

const WITHOUT_QUOTA: HotToken = HotToken {
    name: TOKEN,
    path: "hot path",
    memory: "broker memory, under load",
    quota: "no quota",
    calls_below: 0.5,
    connections: &CONNECTIONS,
    with_control: true,
};

const WITH_QUOTA: HotToken = HotToken {
    name: COUNTED_TOKEN,
    path: "hot path with a quota",
    memory: "broker memory, under load with a quota",
    quota: "quota plentiful",
    calls_below: 1.0,
    connections: &[hot_path::CONNECTIONS_OF_TARGET],
    with_control: false,
};

impl<'a> Scene<'a> {
    async fn set(testbed: &'a Handle, operator: &'a Operator) -> Result<Self, RunError> {
        let namespace = testbed.namespace(NAMESPACE).await?;
        testbed
            .create_service_account(&namespace, SERVICE_ACCOUNT)
            .await?;
        testbed.onboard(&namespace).await?;
        let team = Team::new(testbed.client().await?, &namespace).await?;
        team.add_token(TOKEN, VALUE).await?;
        let vault_url = operator.vault_url();
        let pod = Pod::create(testbed, &namespace, POD, &vault_url).await?;
        let counted_pod = Pod::create(testbed, &namespace, COUNTED_POD, &vault_url).await?;
        Ok(Self {
            testbed,
            operator,
            team,
            pod,
            counted_pod,
        })
    }

    fn database_url(&self) -> &str {
        &self.operator.database().superuser_url
    }

    /// Memory, the hot path and misses: all of one process, from idle to busy, but for the
    /// hot path with a quota.
    async fn under_load(&self, broker: &Broker) -> Result<Vec<Row>, RunError> {
        tokio::time::sleep(IDLE).await;
        let idle = memory::of(broker.pid())?.resident_mb;
        let mut rows = vec![
            Row::new("broker memory, idle", idle, "MB")
                .target(Target::AtMost(12.0))
                .how("VmRSS; attached, nothing served yet"),
        ];
        rows.extend(self.hot_path(broker, &WITHOUT_QUOTA).await?);
        self.team.add_token(COUNTED_TOKEN, VALUE).await?;
        self.team.add_quota(COUNTED_TOKEN, PLENTY).await?;
        let fresh = Broker::start(&self.counted_pod).await?;
        rows.extend(self.hot_path(&fresh, &WITH_QUOTA).await?);
        drop(fresh);
        rows.extend(misses::measure(&self.team, broker, self.database_url()).await?);
        Ok(rows)
    }

    async fn hot_path(&self, broker: &Broker, token: &HotToken) -> Result<Vec<Row>, RunError> {
        let body = Broker::access_body(token.name);
        let mut connection = Connection::open(broker.address()).await?;
        let response = connection.access(broker.bearer(), &body).await?;
        let answer = Answer::of(response.status, &response.headers, response.body.into())?;
        let folder = self.pod.folder();
        let program = bare::program()?;
        let bare = Bare::start(&program, folder, &answer).await?;
        let other = Bare::start(&program, folder, &answer).await?;
        let request = Request {
            bearer: broker.bearer(),
            body: &body,
        };
        let wrk = Wrk::new(folder, &request)?;

        let before = Calls::count(self.database_url()).await?;
        let url = format!("http://{}{ACCESS_PATH}", broker.address());
        let pair = Pair {
            bare: &bare.url(),
            broker: &url,
        };
        let mut rows = Vec::new();
        let mut accesses = 0;
        for &connections in token.connections {
            let (measured, answered) =
                hot_path::measure(&wrk, pair, token.path, connections).await?;
            rows.extend(measured);
            accesses += answered;
            let peak = memory::of(broker.pid())?.peak_mb;
            let name = format!("{}, {}", token.memory, in_words(connections));
            let row = Row::new(name, peak, "MB").target(Target::AtMost(16.0));
            rows.push(row.how("VmHWM: the most since it was started"));
        }
        let calls = Calls::count(self.database_url()).await? - before;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let per_100 = calls.total() * 100.0 / accesses as f64;
        rows.push(
            Row::new(
                format!("vault calls per 100 accesses, {}", token.quota),
                per_100,
                "calls",
            )
            .target(Target::Below(token.calls_below))
            .how("grants and reports over all rounds of the hot path"),
        );
        if token.with_control {
            rows.push(hot_path::control(&wrk, &bare.url(), &other.url()).await?);
        }
        Ok(rows)
    }

    async fn revocation(&self, broker: &Broker, brokers: usize) -> Result<Vec<Row>, RunError> {
        let vault = VaultAddress {
            url: self.operator.vault_url(),
            server_name: VAULT_NAME.to_owned(),
            tls: tls::client_config(self.pod.ca().as_bytes())?,
        };
        let (testbed, team, database_url) = (self.testbed, &self.team, self.database_url());
        let rows =
            revocation::measure(testbed, team, &vault, database_url, broker, brokers).await?;
        Ok(rows)
    }
}
