//! From changing a Secret to the broker serving the new value.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::row::{Row, Target};
use crate::stats::Samples;
use crate::team::{Team, TeamError};
use crate::workload::{Connection, WorkloadError};

const CHANGES: usize = 25;
const SERVE_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);
const TOKEN: &str = "changing";

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The Secret cannot be changed.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// The broker does not answer.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The new value never came.
    #[error("change {number} of a Secret was not served within {} s", SERVE_LIMIT.as_secs())]
    NotServed {
        /// Which change.
        number: usize,
    },
}

/// Changes one Secret again and again, and waits for each value.
///
/// # Errors
/// When one of the values is not served within 30 seconds.
pub async fn measure(team: &Team, broker: &Broker) -> Result<Vec<Row>, ChangeError> {
    eprintln!("bench: {CHANGES} changes of a Secret ...");
    team.add_token(TOKEN, &value(0)).await?;
    let mut workload = Connection::open(broker.address()).await?;
    until_served(&mut workload, broker, 0).await?;
    let mut took = Vec::with_capacity(CHANGES);
    for number in 1..=CHANGES {
        let start = Instant::now();
        let changed = value(number);
        let (set, served) = tokio::join!(
            team.set_value(TOKEN, &changed),
            until_served(&mut workload, broker, number),
        );
        set?;
        took.push(served?.duration_since(start));
    }
    Ok(rows(took))
}

async fn until_served(
    workload: &mut Connection,
    broker: &Broker,
    number: usize,
) -> Result<Instant, ChangeError> {
    let (body, wanted) = (Broker::access_body(TOKEN), format!("\"{}\"", value(number)));
    let ask = async {
        loop {
            let response = workload.access(broker.bearer(), &body).await?;
            let text = String::from_utf8_lossy(&response.body);
            if response.status.is_success() && text.contains(&wanted) {
                return Ok(Instant::now());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(SERVE_LIMIT, ask)
        .await
        .map_err(|_| ChangeError::NotServed { number })?
}

fn value(number: usize) -> String {
    format!("changing-value-{number}")
}

fn rows(took: Vec<Duration>) -> Vec<Row> {
    let Some(samples) = Samples::of_milliseconds(took) else {
        return Vec::new();
    };
    let how =
        format!("{CHANGES} changes, from the request to the API server; asked every millisecond");
    vec![
        Row::new(
            "Secret changed to new value served, p50",
            samples.percentile(50),
            "ms",
        )
        .target(Target::Below(500.0))
        .how(how.clone()),
        Row::new(
            "Secret changed to new value served, slowest",
            samples.max(),
            "ms",
        )
        .how(how),
    ]
}
