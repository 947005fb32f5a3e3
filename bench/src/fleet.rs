//! Many simulated brokers, each of a pod of its own.

use std::time::Duration;

use bursar_crds::names::VAULT_AUDIENCE;
use bursar_testbed::{Handle, HandleError};
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use crate::simulated::{SimulatedBroker, SimulatedError, VaultAddress};
use crate::team::SERVICE_ACCOUNT;

/// The vault has 20 pods a second reviewed; that many begin, so that few wait long.
const PACE: Duration = Duration::from_millis(50);
const PROGRESS: Duration = Duration::from_secs(5);
/// Brokers that ask for their allowances at the same time.
const HOLDERS_AT_ONCE: usize = 32;

/// Why the fleet is not complete.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A pod or its token is missing.
    #[error(transparent)]
    Pod(#[from] HandleError),
    /// A broker failed.
    #[error(transparent)]
    Broker(#[from] SimulatedError),
}

/// Makes `count` pods in `namespace` and attaches a broker as each, telling how far it is.
///
/// # Errors
/// When one of them cannot be made or attached.
pub async fn attach(
    testbed: &Handle,
    namespace: &str,
    vault: &VaultAddress,
    count: usize,
) -> Result<Vec<SimulatedBroker>, FleetError> {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut attaching = FuturesUnordered::new();
    let mut attached = Vec::with_capacity(count);
    let mut told = Instant::now();
    let mut begun = 0;
    while attached.len() < count {
        tokio::select! {
            Some(done) = attaching.next() => attached.push(done?),
            _ = pace.tick(), if begun < count => {
                let pod = format!("simulated-{begun}");
                attaching.push(attach_one(testbed, namespace, pod, vault));
                begun += 1;
            }
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            eprintln!("bench: {} of {count} brokers attached", attached.len());
        }
    }
    Ok(attached)
}

async fn attach_one(
    testbed: &Handle,
    namespace: &str,
    pod: String,
    vault: &VaultAddress,
) -> Result<SimulatedBroker, FleetError> {
    testbed.create_pod(namespace, &pod, SERVICE_ACCOUNT).await?;
    let token = testbed.node_token(namespace, &pod, VAULT_AUDIENCE).await?;
    Ok(SimulatedBroker::attach(vault, &token).await?)
}

/// Lets every broker take an allowance for each of `tokens`.
///
/// # Errors
/// When one of them is denied.
pub async fn hold(
    brokers: Vec<SimulatedBroker>,
    user: &str,
    tokens: &[String],
) -> Result<Vec<SimulatedBroker>, FleetError> {
    let holding = stream::iter(brokers).map(async |mut broker| {
        broker.hold(user, tokens).await?;
        Ok(broker)
    });
    holding
        .buffer_unordered(HOLDERS_AT_ONCE)
        .try_collect()
        .await
}
