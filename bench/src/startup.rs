//! How long the broker takes from start to ready.

use crate::broker::{Broker, BrokerError, Pod};
use crate::row::{Row, Target};
use crate::stats::Samples;

const STARTS: usize = 11;

/// Starts and stops the broker of `pod` again and again.
///
/// # Errors
/// When it does not become ready a single time.
pub async fn measure(pod: &Pod) -> Result<Vec<Row>, BrokerError> {
    eprintln!("bench: {STARTS} starts of the broker ...");
    let mut took = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        took.push(Broker::start(pod).await?.took_to_start());
    }
    let how = format!("{STARTS} starts, from exec to /readyz; attached with a TokenReview");
    let row = |name: &str, value| {
        Row::new(format!("broker start to ready, {name}"), value, "ms").how(how.clone())
    };
    Ok(
        Samples::of_milliseconds(took).map_or_else(Vec::new, |samples| {
            vec![
                row("p50", samples.percentile(50)).target(Target::Below(150.0)),
                row("slowest", samples.max()),
            ]
        }),
    )
}
