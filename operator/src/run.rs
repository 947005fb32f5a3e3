//! The operator from start to end: what is started in which order, and what ends with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_seal::Random;
use bursar_vault::service::{self, Settings, StartError, VaultService, WorkloadIssuer};
use bursar_vault::{Category, Clock, OpenError, QUERY_LIMIT, Vault, VaultConfig};
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::account::{self, ForeignAccount};
use crate::clocks::Clocks;
use crate::config::Config;
use crate::controllers::{self, Means};
use crate::health::{self, Pages};
use crate::metrics::Metrics;
use crate::people::{self, People};
use crate::readiness::{Part, Readiness};
use crate::reviewer::Reviewer;
use crate::root_keys::{self, RootKeysError};
use crate::stop::Stop;
use crate::tls::{self, Authority, AuthorityError, CaError, Leaf};
use crate::{cluster, database, issuer};

/// Enough for the controllers and for brokers beside them.
const DATABASE_CONNECTIONS: u32 = 24;
const RETRY: Duration = Duration::from_secs(2);

/// What the operator takes from the machine it runs on.
pub struct Machine {
    /// How to reach the Kubernetes API.
    pub kubernetes: kube::Config,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
}

/// Why the operator ended: something that a person has to mend. What waiting mends, it waits for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No client for the Kubernetes API can be made.
    #[error("the Kubernetes client cannot be made: {0}")]
    Kubernetes(#[source] Box<kube::Error>),
    /// The root keys cannot be read.
    #[error(transparent)]
    RootKeys(#[from] RootKeysError),
    /// It works as an account whose writes are refused.
    #[error(transparent)]
    Account(#[from] ForeignAccount),
    /// The vault cannot be opened.
    #[error("the vault cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// There is no certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// There is no certificate.
    #[error("there is no certificate for the vault: {0}")]
    Certificate(#[from] AuthorityError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] bursar_wire::tls::TlsError),
    /// The vault's service cannot start.
    #[error("the vault's service cannot start: {0}")]
    Service(#[from] StartError),
}

/// Runs until `shutdown` resolves, and then ends in order: brokers are let go, and what is under
/// way is finished.
///
/// # Errors
/// [`RunError`], while starting only.
pub async fn run(
    config: Config,
    machine: Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let operator = Operator::new(config, machine)?;
    // Whatever is spawned here ends with this function, however that ends.
    let mut tasks = JoinSet::new();
    operator.serve_pages(&mut tasks).await?;

    let mut shutdown = std::pin::pin!(shutdown);
    let prepared = tokio::select! {
        prepared = operator.prepare(&mut tasks) => prepared?,
        () = &mut shutdown => return Ok(()),
    };

    let stop = Stop::new();
    let ending = async {
        shutdown.await;
        operator.readiness.not_ready(Part::Process, "shutting down");
        stop.stop();
    };
    tokio::join!(operator.serve(prepared, &stop), ending);
    Ok(())
}

struct Operator {
    config: Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    client: Client,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
}

/// All that serving needs.
struct Prepared {
    vault: Vault,
    authority: Arc<Authority>,
    listener: TcpListener,
    tls: rustls::ServerConfig,
    people_listener: TcpListener,
    people_tls: rustls::ServerConfig,
    service: VaultService,
    /// Told whenever the database is back.
    recovered: Arc<Notify>,
}

impl Operator {
    fn new(config: Config, machine: Machine) -> Result<Self, RunError> {
        let mut parts = vec![
            Part::Kubernetes,
            Part::Database,
            Part::Certificate,
            Part::Issuer,
            Part::Listener,
        ];
        if !config.no_controllers {
            parts.push(Part::Caches);
        }
        Ok(Self {
            client: Client::try_from(machine.kubernetes)
                .map_err(|error| RunError::Kubernetes(Box::new(error)))?,
            clock: machine.clock,
            random: machine.random,
            readiness: Arc::new(Readiness::waiting_for(&parts)),
            metrics: Arc::new(Metrics::new()),
            config,
        })
    }

    async fn serve_pages(&self, tasks: &mut JoinSet<()>) -> Result<(), RunError> {
        let listener = listen(self.config.metrics_listen).await?;
        let pages = Pages {
            readiness: Arc::clone(&self.readiness),
            metrics: Arc::clone(&self.metrics),
        };
        tasks.spawn(health::serve(listener, pages));
        Ok(())
    }

    /// Waits for whatever may come by itself, and fails for the rest.
    async fn prepare(&self, tasks: &mut JoinSet<()>) -> Result<Prepared, RunError> {
        // First what needs nobody, so that a slip in the settings shows at once.
        root_keys::read(&self.config.root_key_dir)?;
        if !self.config.no_controllers {
            account::check(&self.client, &self.readiness).await?;
        }
        let vault = self.open_vault().await?;
        let recovered = self.watch_database(&vault, tasks);
        let (authority, leaf) = self.certificate(tasks).await?;
        let issuer = self.issuer(tasks).await;
        let service = self.service(&vault, issuer).await?;
        let listener = listen(self.config.listen).await?;
        let people_listener = listen(self.config.people_listen).await?;
        self.readiness.ready(Part::Listener);
        Ok(Prepared {
            tls: bursar_wire::tls::server_config(Arc::new(leaf.clone()))?,
            people_tls: bursar_wire::tls::people_server_config(Arc::new(leaf))?,
            listener,
            people_listener,
            vault,
            authority,
            service,
            recovered,
        })
    }

    async fn open_vault(&self) -> Result<Vault, RunError> {
        let cluster_id = match &self.config.cluster_id {
            Some(id) => {
                self.readiness.ready(Part::Kubernetes);
                id.clone()
            }
            None => cluster::id(&self.client, &self.readiness).await,
        };
        let config = || {
            Ok(VaultConfig {
                database_url: self.config.database_url.clone(),
                insecure_database: self.config.insecure_database,
                max_connections: DATABASE_CONNECTIONS,
                cluster_id: cluster_id.clone(),
                roots: root_keys::read(&self.config.root_key_dir)?,
                random: Arc::clone(&self.random),
                clock: Arc::clone(&self.clock),
                lease: Duration::from_secs(self.config.lease_seconds),
                query_limit: QUERY_LIMIT,
            })
        };
        if self.config.insecure_database {
            tracing::warn!("--insecure-database: whoever is on the way can be the database");
        }
        database::open::<RunError>(config, &self.readiness).await
    }

    fn watch_database(&self, vault: &Vault, tasks: &mut JoinSet<()>) -> Arc<Notify> {
        let recovered = Arc::new(Notify::new());
        let watch = database::Watch {
            vault: vault.clone(),
            clock: Arc::clone(&self.clock),
            clocks: Clocks::new(Arc::clone(&self.metrics)),
            readiness: Arc::clone(&self.readiness),
            recovered: Arc::clone(&recovered),
        };
        tasks.spawn(watch.run(self.config.timing.database_check));
        recovered
    }

    async fn certificate(
        &self,
        tasks: &mut JoinSet<()>,
    ) -> Result<(Arc<Authority>, Leaf), RunError> {
        let authority = loop {
            let namespace = &self.config.namespace;
            let now = self.clock.now();
            match tls::load_or_create(self.client.clone(), namespace, now).await {
                Ok(authority) => break Arc::new(authority),
                Err(error @ CaError::Kubernetes { .. }) => {
                    self.readiness
                        .not_ready(Part::Certificate, error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(RETRY).await;
        };
        let name = self.config.vault_name.clone();
        let (leaf, renew) = Leaf::issue(Arc::clone(&authority), name, Arc::clone(&self.clock))?;
        tasks.spawn(renew);
        self.readiness.ready(Part::Certificate);
        Ok((authority, leaf))
    }

    async fn issuer(&self, tasks: &mut JoinSet<()>) -> watch::Receiver<WorkloadIssuer> {
        let issuer = issuer::read_until_known(&self.client, &self.readiness).await;
        let (sender, issuer) = watch::channel(issuer);
        let pause = self.config.timing.issuer_refresh;
        tasks.spawn(issuer::keep_fresh(self.client.clone(), sender, pause));
        issuer
    }

    async fn service(
        &self,
        vault: &Vault,
        issuer: watch::Receiver<WorkloadIssuer>,
    ) -> Result<VaultService, RunError> {
        loop {
            let reviewer = Reviewer::new(self.client.clone());
            let mut registry = Registry::default();
            let started = VaultService::start(
                vault.clone(),
                issuer.clone(),
                reviewer,
                Settings::default(),
                &mut registry,
            );
            match started.await {
                Ok(service) => {
                    self.metrics.add_service(registry);
                    return Ok(service);
                }
                Err(error) if error.category() == Category::Unavailable => {
                    tracing::warn!(%error, "the vault's service waits");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Serves until `stop`, and what is under way after it.
    async fn serve(&self, prepared: Prepared, stop: &Stop) {
        let Prepared {
            vault,
            authority,
            listener,
            tls,
            people_listener,
            people_tls,
            service,
            recovered,
        } = prepared;
        tracing::info!(address = %self.config.listen, "the vault is served");
        let people = People::new(
            vault.clone(),
            service.clone(),
            self.client.clone(),
            Arc::clone(&self.clock),
            &self.config.namespace,
            Arc::clone(&self.metrics),
        );
        let serve_people = people::serve(people_listener, people_tls, people, stop);
        let serve = service::serve(listener, tls, service, stop.stopped());
        let reconcile = async {
            if self.config.no_controllers {
                return;
            }
            let means = Means {
                client: self.client.clone(),
                namespace: self.config.namespace.clone(),
                vault: vault.clone(),
                clock: Arc::clone(&self.clock),
                random: Arc::clone(&self.random),
                readiness: Arc::clone(&self.readiness),
                metrics: Arc::clone(&self.metrics),
                timing: self.config.timing,
                authority,
                recovered,
            };
            controllers::run(means, stop).await;
        };
        tokio::join!(serve, serve_people, reconcile);
        vault.close().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })
}
