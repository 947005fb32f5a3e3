//! The one operator of this program, and the cluster it is installed in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bursar_operator::{Config, Machine, RunError, Timing, run};
use bursar_seal::SystemRandom;
use bursar_testbed::{Database, free_port, shared, until};
use bursar_vault::SystemClock;
use clap::Parser;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::Child;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, oneshot};

use crate::cable::Cable;
use crate::logs;

/// A generous deadline: many tests share two processors.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// The name in the vault's certificate.
pub(crate) const VAULT_NAME: &str = "bursar-vault.bursar-system.svc";

/// The operator, and what it was given.
pub(crate) struct Operator {
    pub(crate) database: Database,
    pub(crate) cable: Cable,
    kubeconfig: PathBuf,
    root_keys: PathBuf,
    vault_port: u16,
    people_port: u16,
    metrics_port: u16,
    running: Mutex<Option<Running>>,
    /// Held for reading by tests that use the operator, for writing by those that disturb it.
    in_use: RwLock<()>,
}

/// A thread that runs an operator on an async runtime of its own: those of tests end with them.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<Result<(), RunError>>,
}

/// The operator; the first to ask starts it.
pub(crate) async fn operator() -> &'static Operator {
    static OPERATOR: OnceLock<Operator> = OnceLock::new();
    // Not an async cell: what is started here must outlive the runtime of the first test.
    tokio::task::spawn_blocking(|| OPERATOR.get_or_init(|| runtime().block_on(Operator::new())))
        .await
        .unwrap()
}

/// A machine that reaches the API server with such a kubeconfig.
pub(crate) async fn machine_with(kubeconfig: &Path) -> Machine {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let kubernetes =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Machine {
        kubernetes: kubernetes.unwrap(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    }
}

/// A runtime that never ends, for what all tests share.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

impl Operator {
    async fn new() -> Self {
        logs::watch();
        let testbed = shared();
        testbed.install_bursar().await.unwrap();
        let database = testbed.database("operator").await.unwrap();
        let root_keys = root_key_folder("operator-root-keys", &[7; 32]);
        let kubeconfig = testbed
            .kubeconfig_for_service_account("bursar-system", "bursar-operator")
            .await
            .unwrap();
        let postgres = SocketAddr::from(([127, 0, 0, 1], testbed.postgres().port));
        let operator = Self {
            cable: Cable::to(postgres).await,
            database,
            kubeconfig,
            root_keys,
            vault_port: free_port().unwrap(),
            people_port: free_port().unwrap(),
            metrics_port: free_port().unwrap(),
            running: Mutex::default(),
            in_use: RwLock::default(),
        };
        operator.start().await;
        operator
    }

    /// For a test that leaves the operator alone.
    pub(crate) async fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.in_use.read().await
    }

    /// For a test that does not.
    pub(crate) async fn take(&self) -> RwLockWriteGuard<'_, ()> {
        self.in_use.write().await
    }

    /// Its settings.
    pub(crate) fn config(&self) -> Config {
        let mut config = config(&self.through_cable(), &self.root_keys);
        config.listen = ([127, 0, 0, 1], self.vault_port).into();
        config.people_listen = ([127, 0, 0, 1], self.people_port).into();
        config.metrics_listen = ([127, 0, 0, 1], self.metrics_port).into();
        config
    }

    /// Those of another replica, which is told where to listen.
    pub(crate) fn config_of_another(&self) -> Config {
        config(&self.through_cable(), &self.root_keys)
    }

    /// What it is run on.
    pub(crate) async fn machine(&self) -> Machine {
        machine_with(&self.kubeconfig).await
    }

    fn through_cable(&self) -> String {
        let direct = format!(":{}/", shared().postgres().port);
        self.database
            .runtime_url
            .replace(&direct, &format!(":{}/", self.cable.port()))
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(&self) {
        self.start_on(self.machine().await).await;
    }

    /// Starts it on another machine, and waits until it is ready.
    pub(crate) async fn start_on(&self, machine: Machine) {
        self.start_with(self.config(), machine).await;
    }

    /// The same with other settings.
    pub(crate) async fn start_with(&self, config: Config, machine: Machine) {
        let running = Running::start(config, machine);
        *self.running.lock().await = Some(running);
        let ready = until(LIMIT, PAUSE, async || {
            self.page("readyz").await.filter(|page| page == "ok\n")
        });
        assert!(
            ready.await.is_some(),
            "not ready: {:?}",
            self.page("readyz").await
        );
    }

    /// Ends it in order.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().await.take().unwrap();
        running.end().await.unwrap();
    }

    /// One of its pages; `None` while nobody answers.
    pub(crate) async fn page(&self, path: &str) -> Option<String> {
        page(self.metrics_port, path).await
    }

    /// The value of a metric, named with its labels; 0 before it was first counted.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let page = self.page("metrics").await.unwrap();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Where brokers connect to.
    pub(crate) fn vault(&self) -> String {
        format!("https://{}", self.vault_address())
    }

    /// Where people's queries are answered.
    pub(crate) fn people_port(&self) -> u16 {
        self.people_port
    }

    /// The same without the scheme.
    pub(crate) fn vault_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.vault_port).into()
    }

    /// A process that serves the same vault at a port, and leaves the objects to this operator;
    /// it is ready.
    pub(crate) async fn vault_process(&self, port: u16) -> Child {
        let pages = free_port().unwrap();
        let process = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar-operator"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("BURSAR_DATABASE_URL", &self.database.runtime_url)
            .env("BURSAR_ROOT_KEY_DIR", &self.root_keys)
            .args(["--no-controllers", "--log-format=json"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg("--people-listen=127.0.0.1:0")
            .arg(format!("--metrics-listen=127.0.0.1:{pages}"))
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ready = until(LIMIT, PAUSE, async || {
            page(pages, "readyz").await.filter(|page| page == "ok\n")
        });
        assert!(ready.await.is_some());
        process
    }
}

impl Running {
    /// Runs an operator until it is told to end, or ends by itself.
    pub(crate) fn start(config: Config, machine: Machine) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(config, machine, async {
                let _ = stopped.await;
            }))
        });
        Self {
            stop: Some(stop),
            thread,
        }
    }

    /// Tells it to end, and waits for that.
    pub(crate) async fn end(mut self) -> Result<(), RunError> {
        drop(self.stop.take());
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), RunError> {
        // `stop` is kept until then.
        let Self { stop, thread } = self;
        let ended = tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
        drop(stop);
        ended
    }
}

/// Settings as a test wants them: what goes on every half minute goes on every second.
pub(crate) fn config(database_url: &str, root_keys: &Path) -> Config {
    let mut config = Config::parse_from([
        "bursar-operator",
        "--database-url",
        database_url,
        "--root-key-dir",
        root_keys.to_str().unwrap(),
        "--listen=127.0.0.1:0",
        "--people-listen=127.0.0.1:0",
        "--metrics-listen=127.0.0.1:0",
        "--vault-name",
        VAULT_NAME,
    ]);
    config.timing = Timing {
        onboarding_check: Duration::from_secs(1),
        database_check: Duration::from_millis(200),
        quota_check: Duration::from_secs(1),
        use_check: Duration::from_secs(1),
        audit_checkpoint: Duration::from_secs(1),
        ..Timing::default()
    };
    config
}

/// A folder with one root key.
pub(crate) fn root_key_folder(name: &str, key: &[u8]) -> PathBuf {
    let folder = shared().folder().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("1"), key).unwrap();
    folder
}

/// One page of an operator's health port.
pub(crate) async fn page(port: u16, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .ok()?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}

/// Runs kubectl as an administrator; what it prints.
pub(crate) fn kubectl(args: &[&str]) -> String {
    let testbed = shared();
    let output = Command::new(testbed.kubectl())
        .arg("--kubeconfig")
        .arg(testbed.kubeconfig())
        .arg("--cache-dir")
        .arg(testbed.folder().join("operator-kubectl-cache"))
        .args(args)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
