//! The hot path: a cached access, beside a bare server with the same work to read and write.

use std::time::Duration;

use crate::row::{Row, Target};
use crate::stats::Samples;
use crate::wrk::{Load, Measured, Wrk, WrkError};

/// Connections to measure with, in rising order; the design sets a target for 64.
pub const CONNECTIONS: [u32; 3] = [1, 64, 256];
/// The number of connections that the design speaks of.
pub const CONNECTIONS_OF_TARGET: u32 = 64;

/// Short and many, so that what else the machine does meets both servers alike.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_secs(1);

/// Two servers to compare, by the URL that is posted to.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The bare server.
    pub bare: &'a str,
    /// The broker.
    pub broker: &'a str,
}

/// Measures both servers at this number of connections, and calls it `name`. Gives
/// also how many requests the broker has answered.
///
/// # Errors
/// When a single request failed, or wrk did.
pub async fn measure(
    wrk: &Wrk<'_>,
    pair: Pair<'_>,
    name: &str,
    connections: u32,
) -> Result<(Vec<Row>, u64), WrkError> {
    let name = format!("{name}, {}", in_words(connections));
    eprintln!("bench: {name} ...");
    let compared = Compared::run(wrk, pair, connections).await?;
    let accesses = compared.broker.iter().map(|round| round.requests).sum();
    let row = |suffix, unit, figure| compared.row(format!("{name}{suffix}"), unit, figure);
    let mut rate = row("", "requests/s", |measured| measured.requests_per_second);
    if connections == CONNECTIONS_OF_TARGET {
        rate = rate.target(Target::RatioAtLeast(0.8));
    }
    let p50 = row(" p50", "ms", |measured| measured.p50_ms);
    let p99 = row(" p99", "ms", |measured| measured.p99_ms);
    Ok((vec![rate, p50, p99], accesses))
}

/// A number of connections, for people.
pub fn in_words(connections: u32) -> String {
    match connections {
        1 => "1 connection".to_owned(),
        many => format!("{many} connections"),
    }
}

/// Compares two equal servers: how far the ratio is from 1 is the noise of this machine.
///
/// # Errors
/// When a single request failed, or wrk did.
pub async fn control(wrk: &Wrk<'_>, one: &str, other: &str) -> Result<Row, WrkError> {
    eprintln!("bench: the bare server beside itself ...");
    let pair = Pair {
        bare: one,
        broker: other,
    };
    let compared = Compared::run(wrk, pair, CONNECTIONS_OF_TARGET).await?;
    let name = "control: bare server over another of its kind".to_owned();
    Ok(compared.row(name, "requests/s", |measured| measured.requests_per_second))
}

/// The rounds of both servers at one number of connections.
struct Compared {
    bare: Vec<Measured>,
    broker: Vec<Measured>,
}

impl Compared {
    async fn run(wrk: &Wrk<'_>, pair: Pair<'_>, connections: u32) -> Result<Self, WrkError> {
        for url in [pair.bare, pair.broker] {
            wrk.run(
                url,
                Load {
                    connections,
                    duration: WARM_UP,
                },
            )
            .await?;
        }
        let load = Load {
            connections,
            duration: ROUND,
        };
        let mut compared = Self {
            bare: Vec::new(),
            broker: Vec::new(),
        };
        // By turns, so that what else the machine does meets both.
        for _ in 0..ROUNDS {
            compared.bare.push(wrk.run(pair.bare, load).await?);
            compared.broker.push(wrk.run(pair.broker, load).await?);
        }
        Ok(compared)
    }

    fn row(&self, name: String, unit: &'static str, figure: fn(&Measured) -> f64) -> Row {
        let baseline = median(&self.bare, figure);
        Row::new(name, median(&self.broker, figure), unit)
            .over(baseline)
            .how(format!(
                "medians of {ROUNDS} rounds of {} s by turns; wrk, one thread",
                ROUND.as_secs()
            ))
    }
}

/// There are always [`ROUNDS`] of them; zero would only show that there are none.
fn median(rounds: &[Measured], figure: fn(&Measured) -> f64) -> f64 {
    Samples::new(rounds.iter().map(figure)).map_or(0.0, |samples| samples.median())
}
