//! On what machine the figures were taken, and how busy it was before: they mean
//! nothing without it.

use std::fs;
use std::thread;

use crate::row::Row;

/// Cores as the value; processor, memory and kernel beside it.
pub fn row() -> Row {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| unknown());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_else(|_| unknown());
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let build = if cfg!(debug_assertions) {
        "debug build: NOT the one that ships"
    } else {
        "release build"
    };
    #[expect(clippy::cast_precision_loss, reason = "no machine has 2^52 cores")]
    let cores = cores as f64;
    Row::new("machine", cores, "cores").how(format!(
        "{processor}; memory {memory}; Linux {}; load average {load} before; {build}",
        kernel.trim()
    ))
}

/// The value of the first line `name : value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
