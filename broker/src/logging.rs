//! Log lines, on standard error.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use crate::args::LogFormat;

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level must be a level (off, error, warn, info, debug, trace), or TARGET=LEVEL, or \
     several of them with commas between"
)]
pub struct LogLevelError;

/// Starts logging what `filter` lets through.
///
/// # Errors
/// When `filter` is none.
pub fn start(filter: &str, format: LogFormat) -> Result<(), LogLevelError> {
    let logs = registry().with(targets(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Json => logs.with(lines.json()).init(),
        LogFormat::Text => logs.with(lines).init(),
    }
    Ok(())
}

/// What a filter lets through. Its own parser would take a wrong word for the name of a
/// target, and a comma at the end for silence.
fn targets(filter: &str) -> Result<Targets, LogLevelError> {
    let level = |text: &str| match text.trim() {
        // To the crate this is a level too.
        "" => Err(LogLevelError),
        text => text.parse::<LevelFilter>().map_err(|_| LogLevelError),
    };
    let is_target = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':');
        !text.is_empty() && text.bytes().all(plain)
    };
    let mut targets = Targets::new();
    for part in filter.split(',') {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((target, part)) if is_target(target.trim()) => {
                targets.with_target(target.trim(), level(part)?)
            }
            Some(_) => return Err(LogLevelError),
        };
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::targets;

    #[test]
    fn levels_are_read_for_all_and_for_one_target() {
        let lets = |filter: &str, target: &str, level: &Level| {
            targets(filter).unwrap().would_enable(target, level)
        };
        assert!(lets("info", "hyper", &Level::INFO));
        assert!(!lets("info", "hyper", &Level::DEBUG));
        let one = "WARN, bursar_broker=debug";
        assert!(lets(one, "bursar_broker::http", &Level::DEBUG));
        assert!(!lets(one, "bursar_broker::http", &Level::TRACE));
        assert!(!lets(one, "hyper", &Level::INFO));
        assert!(!lets("off", "bursar_broker", &Level::ERROR));
        assert!(!lets("bursar_broker=debug", "hyper", &Level::ERROR));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in [
            "",
            "loud",
            "info,",
            "bursar_broker",
            "bursar_broker=",
            "bursar_broker=loud",
            "bursar_broker[span]=debug",
            "bursar-broker=debug",
            "=debug",
            "info;debug",
        ] {
            assert!(targets(filter).is_err(), "{filter}");
        }
    }
}
