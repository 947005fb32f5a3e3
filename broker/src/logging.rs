//! Log lines, on standard error.

use std::io;

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::args::LogFormat;

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--log-level must be a level such as info, or TARGET=LEVEL,...: {0}")]
pub struct LogLevelError(#[from] ParseError);

/// Starts logging what `filter` lets through.
///
/// # Errors
/// When `filter` is none.
pub fn start(filter: &str, format: LogFormat) -> Result<(), LogLevelError> {
    let filter: Targets = filter.parse()?;
    let lines = fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(io::stderr);
    match format {
        LogFormat::Json => lines.json().finish().with(filter).init(),
        LogFormat::Text => lines.finish().with(filter).init(),
    }
    Ok(())
}
