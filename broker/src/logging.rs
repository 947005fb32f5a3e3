//! Log lines, on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

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
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.init(),
    }
    Ok(())
}
