//! How often the vault is asked when many requests find nothing in the broker's memory.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::{JoinError, JoinSet};

use crate::broker::Broker;
use crate::calls::{Calls, CallsError};
use crate::row::{Row, Target};
use crate::stats::Samples;
use crate::team::{Team, TeamError};
use crate::workload::{Connection, WorkloadError};

const REQUESTS: usize = 256;
const ROUNDS: usize = 5;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MissesError {
    /// A token is missing.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// The broker does not answer.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// Calls cannot be counted.
    #[error(transparent)]
    Calls(#[from] CallsError),
    /// A task of this program failed.
    #[error("a request's task failed: {0}")]
    Task(#[from] JoinError),
    /// A request was refused.
    #[error(
        "{refused} of {REQUESTS} requests that missed at once were refused; look at the broker's log"
    )]
    Refused {
        /// How many.
        refused: usize,
    },
}

/// Lets requests for tokens that were never asked for meet at the broker.
///
/// # Errors
/// When one of them is refused.
pub async fn measure(
    team: &Team,
    broker: &Broker,
    database_url: &str,
) -> Result<Option<Row>, MissesError> {
    eprintln!("bench: {REQUESTS} requests that miss at once ...");
    let mut grants = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let token = format!("missed-{round}");
        team.add_token(&token, &format!("value-of-{token}")).await?;
        let before = Calls::count(database_url).await?;
        miss(broker, &token).await?;
        let after = Calls::count(database_url).await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        grants.push((after - before).grants as f64);
    }
    Ok(Samples::new(grants).map(|grants| {
        Row::new(
            format!("vault calls when {REQUESTS} requests miss at once"),
            grants.max(),
            "calls",
        )
        .target(Target::AtMost(1.0))
        .how(format!(
            "the most of {ROUNDS} rounds, each with a fresh token"
        ))
    }))
}

async fn miss(broker: &Broker, token: &str) -> Result<(), MissesError> {
    let together = Arc::new(Barrier::new(REQUESTS));
    let (bearer, body) = (
        Arc::new(broker.bearer().to_owned()),
        Arc::new(Broker::access_body(token)),
    );
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        // Connected beforehand, so that they come as close to each other as can be.
        let mut connection = Connection::open(broker.address()).await?;
        let (together, bearer, body) = (
            Arc::clone(&together),
            Arc::clone(&bearer),
            Arc::clone(&body),
        );
        requests.spawn(async move {
            together.wait().await;
            Ok::<_, WorkloadError>(connection.access(&bearer, &body).await?.status)
        });
    }
    let mut refused = 0;
    while let Some(done) = requests.join_next().await {
        refused += usize::from(!done??.is_success());
    }
    if refused > 0 {
        return Err(MissesError::Refused { refused });
    }
    Ok(())
}
