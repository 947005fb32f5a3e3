//! The last tenth of a quota that many pods share: how often its brokers call the
//! vault, and whether one of them says too early that it is used up.
//!
//! The brokers are the ones that ship, a process for each pod.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bursar_testbed::Handle;
use futures::future::{join_all, try_join_all};
use futures::stream::{self, StreamExt, TryStreamExt};
use http::StatusCode;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::broker::{Broker, BrokerError, Pod};
use crate::calls::{Calls, CallsError};
use crate::row::{Row, Target};
use crate::team::{Team, TeamError};
use crate::workload::{Connection, WorkloadError};

const TOKEN: &str = "shared";
/// Accesses that the quota has for each pod; of these the last tenth is measured.
const UNITS_PER_POD: u64 = 1_000;
/// How often each pod's application asks.
const PERIOD: Duration = Duration::from_millis(100);
/// As fast as they use it up, it takes a tenth of this.
const LIMIT: Duration = Duration::from_secs(100);
/// Connections that use up the first nine tenths.
const CONNECTIONS: usize = 64;
/// A broker gives back what is idle after 2 seconds, looks each second, and reports each
/// second.
const GIVEN_BACK: Duration = Duration::from_secs(6);
/// Brokers that start at the same time.
const STARTS_AT_ONCE: usize = 8;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum SharedQuotaError {
    /// The token or its quota is missing.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// A broker does not run.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A broker does not answer.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// Calls cannot be counted.
    #[error(transparent)]
    Calls(#[from] CallsError),
    /// A broker answered with neither a token nor 429.
    #[error("a broker answered {0} where the quota decides; look at its log")]
    Answer(StatusCode),
    /// The first nine tenths could not be used.
    #[error("the quota was used up at {0} accesses, long before its last tenth")]
    TooEarly(u64),
}

/// Where pods live, and whom they ask.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The cluster.
    pub testbed: &'a Handle,
    /// Whose namespace and user it is.
    pub team: &'a Team,
    /// The vault's URL.
    pub vault_url: &'a str,
    /// Its database.
    pub database_url: &'a str,
}

/// What all applications together have seen.
#[derive(Default)]
struct Seen {
    served: Cell<u64>,
    /// Requests that are not answered yet.
    under_way: Cell<u64>,
    /// 429 while there were more units left than requests under way.
    false_denials: Cell<u64>,
}

/// Lets `pods` pods use up the last tenth of a quota, ten accesses a second each.
///
/// # Errors
/// When a broker does not run or gives another answer than a token or 429.
pub async fn measure(
    place: Place<'_>,
    first: &Broker,
    pods: usize,
) -> Result<Vec<Row>, SharedQuotaError> {
    let limit = UNITS_PER_POD * pods as u64;
    let tenth = limit / 10;
    place
        .team
        .add_token(TOKEN, "a-value-that-many-share")
        .await?;
    place.team.add_quota(TOKEN, limit).await?;
    eprintln!("bench: starting the brokers of {pods} pods ...");
    let brokers = start(place, pods).await?;
    use_up(first, limit - tenth).await?;
    tokio::time::sleep(GIVEN_BACK).await;

    eprintln!("bench: the last tenth of a quota, {pods} pods ...");
    let before = Calls::count(place.database_url).await?;
    let seen = Rc::new(Seen::default());
    let begun = Instant::now();
    let asking = brokers.iter().enumerate().map(|(n, broker)| {
        // Spread over the period, as pods that know nothing of each other are.
        let phase = PERIOD.mul_f64(share(n as u64, pods as u64));
        ask(broker, Rc::clone(&seen), tenth, begun + phase)
    });
    try_join_all(asking).await?;
    tokio::time::sleep(GIVEN_BACK).await;
    let calls = Calls::count(place.database_url).await? - before;
    let beyond = beyond(&brokers).await?;
    Ok(rows(&seen, calls, beyond, tenth, pods))
}

async fn start(place: Place<'_>, pods: usize) -> Result<Vec<Broker>, SharedQuotaError> {
    let starting = stream::iter(0..pods).map(async |n| {
        let (namespace, name) = (place.team.namespace(), format!("sharing-{n}"));
        let pod = Pod::create(place.testbed, namespace, &name, place.vault_url).await?;
        Broker::start(&pod).await
    });
    Ok(starting
        .buffer_unordered(STARTS_AT_ONCE)
        .try_collect()
        .await?)
}

/// Uses up `units` over one broker, as fast as it goes.
async fn use_up(broker: &Broker, units: u64) -> Result<(), SharedQuotaError> {
    let body = Broker::access_body(TOKEN);
    let begun = Cell::new(0);
    let using = (0..CONNECTIONS).map(async |_| {
        let mut connection = Connection::open(broker.address()).await?;
        while begun.get() < units {
            begun.set(begun.get() + 1);
            match connection.access(broker.bearer(), &body).await?.status {
                StatusCode::OK => {}
                StatusCode::TOO_MANY_REQUESTS => {
                    return Err(SharedQuotaError::TooEarly(begun.get()));
                }
                other => return Err(SharedQuotaError::Answer(other)),
            }
        }
        Ok(())
    });
    try_join_all(using).await?;
    Ok(())
}

/// Asks ten times a second until all `units` were served to somebody.
async fn ask(
    broker: &Broker,
    seen: Rc<Seen>,
    units: u64,
    first: Instant,
) -> Result<(), SharedQuotaError> {
    let body = Broker::access_body(TOKEN);
    let mut connection = Connection::open(broker.address()).await?;
    let mut ticks = interval_at(first, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = first + LIMIT;
    loop {
        let now = ticks.tick().await;
        // Others may be served what is left: more than that is not to be asked for.
        let left = units.saturating_sub(seen.served.get());
        if left == 0 || now >= deadline {
            return Ok(());
        }
        if seen.under_way.get() >= left {
            continue;
        }
        seen.under_way.set(seen.under_way.get() + 1);
        let answer = connection.access(broker.bearer(), &body).await;
        seen.under_way.set(seen.under_way.get() - 1);
        match answer?.status {
            StatusCode::OK => seen.served.set(seen.served.get() + 1),
            StatusCode::TOO_MANY_REQUESTS => {
                if seen.served.get() + seen.under_way.get() < units {
                    seen.false_denials.set(seen.false_denials.get() + 1);
                }
            }
            other => return Err(SharedQuotaError::Answer(other)),
        }
    }
}

/// Every pod asks once more; how many are served what the quota does not have.
async fn beyond(brokers: &[Broker]) -> Result<u64, SharedQuotaError> {
    let body = Broker::access_body(TOKEN);
    let asking = brokers.iter().map(async |broker| {
        let mut connection = Connection::open(broker.address()).await?;
        Ok::<_, SharedQuotaError>(connection.access(broker.bearer(), &body).await?.status)
    });
    let mut served = 0;
    for status in join_all(asking).await {
        served += u64::from(status? == StatusCode::OK);
    }
    Ok(served)
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn rows(seen: &Seen, calls: Calls, beyond: u64, tenth: u64, pods: usize) -> Vec<Row> {
    let served = seen.served.get();
    // What was served beyond the quota, or stayed unused at the deadline: none of either.
    let off = (served + beyond).abs_diff(tenth);
    let how = format!(
        "{served} of {tenth} accesses; {} grants, {} reports; brokers that ship, {} accesses a \
         second each",
        calls.grants,
        calls.reports,
        1_000 / PERIOD.as_millis(),
    );
    let calls = Row::new(
        format!("vault calls per 100 accesses, last tenth of a quota shared by {pods} pods"),
        calls.total() * share(100, served),
        "calls",
    );
    let early = Row::new(
        format!("429 before the quota was used up, {pods} pods"),
        share(seen.false_denials.get(), 1),
        "answers",
    );
    let off = Row::new(
        format!("accesses more or fewer than the quota, {pods} pods"),
        share(off, 1),
        "accesses",
    );
    vec![
        calls.target(Target::Below(15.0)).how(how),
        early
            .target(Target::AtMost(0.0))
            .how("those that came while more was left than requests were under way"),
        off.target(Target::AtMost(0.0))
            .how("served until it was used up, and by one request of each pod after that"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_unused_or_served_beyond_the_quota_misses_the_target() {
        let seen = Seen::default();
        seen.served.set(100);
        let calls = Calls {
            grants: 5,
            reports: 5,
        };
        let met = |beyond, tenth| {
            let rows = rows(&seen, calls, beyond, tenth, 10);
            rows.iter()
                .map(|row| row.target_met.unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(met(0, 100), [true, true, true]);
        assert_eq!(met(1, 100), [true, true, false]);
        assert_eq!(met(0, 101), [true, true, false]);
        seen.false_denials.set(1);
        assert_eq!(met(0, 100), [true, false, true]);
    }

    #[test]
    fn calls_are_told_for_a_hundred_accesses() {
        let seen = Seen::default();
        seen.served.set(200);
        let calls = Calls {
            grants: 10,
            reports: 20,
        };
        assert_eq!(rows(&seen, calls, 0, 200, 10)[0].value, 15.0);
        assert_eq!(rows(&seen, calls, 0, 200, 10)[0].target_met, Some(false));
    }
}
