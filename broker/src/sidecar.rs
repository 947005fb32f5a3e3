//! One broker from its first listener to its last report.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bursar_seal::Random;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{interval, timeout};

use crate::admin;
use crate::args::Args;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::http::router;
use crate::http::server::{BindError, Server};
use crate::upstream::session::{self, VaultAddress};

/// How long requests under way may take after the order to end. With
/// [`REPORT_PATIENCE`] it stays below the 30 seconds that Kubernetes gives.
const REQUEST_PATIENCE: Duration = Duration::from_secs(15);
/// How long the last report may take.
const REPORT_PATIENCE: Duration = Duration::from_secs(10);
/// How often leases that are over are looked for.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Why a broker did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// An address to listen on is taken, or none exists.
    #[error("{0}; choose others with --listen and --metrics-listen")]
    Bind(String),
    /// The kernel does not say where it listens.
    #[error("cannot tell where the broker listens: {0}")]
    Address(#[from] io::Error),
    /// The vault could not be told all that was served.
    #[error("{accesses} accesses were not reported; the vault will record them as unaccounted for")]
    Unreported {
        /// How many.
        accesses: u64,
    },
    /// The vault could not be told that nothing more will be served.
    #[error("allowances were not handed back; the vault will record them as unaccounted for")]
    NotClosed,
}

impl From<BindError> for SidecarError {
    fn from(error: BindError) -> Self {
        Self::Bind(error.to_string())
    }
}

/// A broker that listens and does not serve yet.
pub struct Sidecar {
    broker: Rc<Broker>,
    vault: VaultAddress,
    workloads: Server,
    admin: Server,
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
}

impl Sidecar {
    /// Listens where `args` says.
    ///
    /// # Errors
    /// [`SidecarError::Bind`] or [`SidecarError::Address`].
    pub async fn bind(
        args: &Args,
        clock: Box<dyn Clock>,
        random: Box<dyn Random>,
    ) -> Result<Self, SidecarError> {
        let workloads = Server::bind(&args.listen).await?;
        let admin = Server::bind_one(args.metrics_listen).await?;
        let addresses = workloads.addresses()?;
        let admin_address = admin
            .addresses()?
            .first()
            .copied()
            .unwrap_or(args.metrics_listen);
        tracing::info!(?addresses, %admin_address, "listening");
        Ok(Self {
            broker: Rc::new(Broker::new(clock, random)),
            vault: VaultAddress {
                url: args.vault.clone(),
                name: args.vault_name.clone(),
                ca_file: args.ca_file.clone(),
                token_file: args.token_file.clone(),
            },
            workloads,
            admin,
            addresses,
            admin_address,
        })
    }

    /// Where workloads are served.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health, readiness and metrics are served.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until `stop`, then drains: no longer ready, no new connections,
    /// requests under way finish, all allowances are closed in a last report.
    /// Must run where [`tokio::task::spawn_local`] may be called.
    ///
    /// # Errors
    /// [`SidecarError::Unreported`] or [`SidecarError::NotClosed`] when the
    /// vault could not be reached for the last report.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), SidecarError> {
        let broker = self.broker;
        let (stopping, stopped) = oneshot::channel::<()>();
        let serving = spawn_local({
            let broker = Rc::clone(&broker);
            let handle = move |request| {
                let broker = Rc::clone(&broker);
                async move { router::handle(&broker, request).await }
            };
            self.workloads
                .run(handle, async move { drop(stopped.await) })
        });
        let watched = spawn_local({
            let broker = Rc::clone(&broker);
            let handle = move |request| admin::handle(Rc::clone(&broker), request);
            self.admin.run(handle, std::future::pending())
        });
        let attached = spawn_local({
            let (broker, vault) = (Rc::clone(&broker), self.vault);
            async move { session::run(&broker, &vault).await }
        });
        let sweeping = spawn_local({
            let broker = Rc::clone(&broker);
            async move { sweep(&broker).await }
        });

        stop.await;
        tracing::info!("ending: finishing requests under way");
        broker.draining.set(true);
        drop(stopping);
        if timeout(REQUEST_PATIENCE, serving).await.is_err() {
            tracing::warn!("requests under way did not finish in time");
        }
        let ended = hand_back(&broker).await;
        sweeping.abort();
        attached.abort();
        watched.abort();
        ended
    }
}

/// Keys are dropped when their lease is over, whether or not anybody asks for
/// the token again and whether or not the vault is there.
async fn sweep(broker: &Broker) {
    let mut pause = interval(SWEEP_PAUSE);
    loop {
        pause.tick().await;
        broker.holdings.borrow_mut().sweep(broker.clock.boot());
    }
}

/// Closes all allowances and waits until the vault has recorded it.
async fn hand_back(broker: &Broker) -> Result<(), SidecarError> {
    let progress = broker.holdings.borrow().progress();
    broker.holdings.borrow_mut().close();
    let is_told = || {
        let holdings = broker.holdings.borrow();
        holdings.is_settled() && holdings.untold_denials() == 0
    };
    let told = async {
        while !is_told() {
            progress.notified().await;
        }
    };
    let _ = timeout(REPORT_PATIENCE, told).await;
    let holdings = broker.holdings.borrow();
    let denials = holdings.untold_denials();
    if denials > 0 {
        tracing::warn!(denials, "not reported: they are in this log alone");
    }
    let lost = holdings.lost_at_end().unwrap_or_default() + holdings.unreported();
    if lost > 0 {
        Err(SidecarError::Unreported { accesses: lost })
    } else if !holdings.is_settled() || holdings.lost_at_end().is_some() {
        Err(SidecarError::NotClosed)
    } else {
        tracing::info!("ended: all that was served is reported");
        Ok(())
    }
}
