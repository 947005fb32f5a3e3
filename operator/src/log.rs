//! Log lines on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

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
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => logs
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => logs.json().finish().try_init(),
    }
    .map_err(|_| LogError)
}

/// The filter for a level.
pub fn filter(level: LogLevel) -> EnvFilter {
    // The Kubernetes client logs the whole body of an answer it cannot read,
    // and some of those answers are Secrets. What a watch is refused is logged here, once.
    let directives = match level {
        LogLevel::Error => "error,kube_client=off,kube_runtime=error",
        LogLevel::Warn => "warn,kube_client=off,kube_runtime=error",
        LogLevel::Info => "info,kube_client=off,kube_runtime=error",
        LogLevel::Debug => "debug,kube_client=off,h2=info,hyper_util=info",
        LogLevel::Trace => "trace,kube_client::client=off",
    };
    EnvFilter::new(directives)
}

/// The process already logs elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("logging was already set up in this process")]
pub struct LogError;
