//! Log lines on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

/// The least severe messages that are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    /// Only what somebody has to mend.
    Error,
    /// Also what may need a look.
    Warn,
    /// Also what changed.
    Info,
    /// Also what was tried.
    Debug,
    /// Everything, of the libraries too.
    Trace,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

/// Sends the process's log lines to standard error from now on.
///
/// # Errors
/// When the process already has somewhere to log to.
pub fn init(level: LogLevel, format: LogFormat) -> Result<(), LogError> {
    let logs = registry().with(filter(level));
    let lines = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => logs
            .with(lines.with_ansi(io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => logs.with(lines.json()).try_init(),
    }
    .map_err(|_| LogError)
}

/// The filter for a level.
pub fn filter(level: LogLevel) -> Targets {
    let all = Targets::new();
    // The Kubernetes client logs the whole body of an answer it cannot read,
    // and some of those answers are Secrets. What a watch is refused is logged here, once.
    let quiet = |all: Targets| {
        all.with_target("kube_client", LevelFilter::OFF)
            .with_target("kube_runtime", LevelFilter::ERROR)
    };
    match level {
        LogLevel::Error => quiet(all.with_default(LevelFilter::ERROR)),
        LogLevel::Warn => quiet(all.with_default(LevelFilter::WARN)),
        LogLevel::Info => quiet(all.with_default(LevelFilter::INFO)),
        LogLevel::Debug => all
            .with_default(LevelFilter::DEBUG)
            .with_target("kube_client", LevelFilter::OFF)
            .with_targets([("h2", LevelFilter::INFO), ("hyper_util", LevelFilter::INFO)]),
        LogLevel::Trace => all
            .with_default(LevelFilter::TRACE)
            .with_target("kube_client::client", LevelFilter::OFF),
    }
}

/// The process already logs elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("logging was already set up in this process")]
pub struct LogError;

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use tracing::Level;

    use super::{LogLevel, filter};

    #[test]
    fn answers_of_the_api_server_are_logged_at_no_level() {
        for level in LogLevel::value_variants() {
            let target = "kube_client::client";
            assert!(
                !filter(*level).would_enable(target, &Level::ERROR),
                "{level:?}"
            );
        }
    }

    #[test]
    fn what_a_watch_is_refused_is_not_logged_again() {
        let watch = "kube_runtime::watcher";
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info] {
            assert!(
                !filter(level).would_enable(watch, &Level::WARN),
                "{level:?}"
            );
            assert!(filter(level).would_enable(watch, &Level::ERROR));
        }
    }

    #[test]
    fn each_level_lets_its_own_lines_through() {
        for (level, own, less) in [
            (LogLevel::Error, Level::ERROR, Some(Level::WARN)),
            (LogLevel::Warn, Level::WARN, Some(Level::INFO)),
            (LogLevel::Info, Level::INFO, Some(Level::DEBUG)),
            (LogLevel::Debug, Level::DEBUG, Some(Level::TRACE)),
            (LogLevel::Trace, Level::TRACE, None),
        ] {
            let filter = filter(level);
            assert!(filter.would_enable("bursar_operator", &own));
            assert!(less.is_none_or(|less| !filter.would_enable("bursar_operator", &less)));
        }
    }
}
