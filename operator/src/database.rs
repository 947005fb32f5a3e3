//! The database: opened as soon as it is there, and looked at from then on.

use std::sync::Arc;
use std::time::Duration;

use bursar_vault::{Category, Clock, OpenError, Vault, VaultConfig};
use tokio::sync::Notify;

use crate::clocks::Clocks;
use crate::readiness::{Part, Readiness};

const RETRY: Duration = Duration::from_secs(2);

/// Opens the vault, however long the database is away or not migrated.
///
/// # Errors
/// For what waiting does not mend: a wrong root key, an unverified connection, a migration that
/// was applied by half. And when there is no `config`.
pub(crate) async fn open<E: From<OpenError>>(
    config: impl Fn() -> Result<VaultConfig, E>,
    readiness: &Readiness,
) -> Result<Vault, E> {
    loop {
        match Vault::open(config()?).await {
            Ok(vault) => {
                readiness.ready(Part::Database);
                return Ok(vault);
            }
            Err(error) if error.category() == Category::Unavailable => {
                readiness.not_ready(Part::Database, waiting_for(&error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The watch over the database: whether it answers, what its clock says, and whether versions wait
/// to be shredded.
pub(crate) struct Watch {
    pub(crate) vault: Vault,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clocks: Clocks,
    pub(crate) readiness: Arc<Readiness>,
    /// Told whenever the database is back.
    pub(crate) recovered: Arc<Notify>,
}

impl Watch {
    /// Looks every `pause`, for as long as it is polled.
    pub(crate) async fn run(mut self, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            let asked = self.clock.now();
            match self.vault.database_time().await {
                Ok(theirs) => {
                    if let Some(theirs) = theirs.timestamp() {
                        self.clocks.compare(asked, theirs, self.clock.now());
                    }
                    self.answered();
                    self.shred().await;
                }
                Err(error) => {
                    self.readiness
                        .not_ready(Part::Database, waiting_for(&error.to_string()));
                }
            }
        }
    }

    async fn shred(&self) {
        match self.vault.sweep_shred().await {
            Ok(0) => {}
            Ok(shredded) => tracing::info!(shredded, "keys of deleted versions were destroyed"),
            Err(error) => tracing::error!(%error, "deleted versions wait to be shredded"),
        }
    }

    fn answered(&self) {
        if !self.readiness.is_ready(Part::Database) {
            self.readiness.ready(Part::Database);
            tracing::info!("the database answers again");
            self.recovered.notify_one();
        }
    }
}

fn waiting_for(error: &str) -> String {
    format!("waiting for Postgres: {error}")
}
