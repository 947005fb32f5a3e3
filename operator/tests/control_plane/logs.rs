//! All that this process logs, at trace, searched for what must never be in it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bursar_operator::{LogLevel, log_filter};
use tracing_subscriber::util::SubscriberInitExt;

/// Every value that a test puts into a Secret begins with this, and nothing else has it.
pub(crate) const PLANTED: &str = "planted-";

/// How planted values, and credentials, look in text: plain, in base64, as a list of bytes; and
/// the beginning of every JWT.
const TRACES: [&str; 4] = [
    PLANTED,
    "cGxhbnRlZC",
    "112, 108, 97, 110, 116, 101, 100, 45",
    "eyJhbGciOi",
];

static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Looks at every line from now on.
pub(crate) fn watch() {
    tracing_subscriber::fmt()
        .with_env_filter(log_filter(LogLevel::Trace))
        .with_ansi(false)
        .with_writer(|| Watcher)
        .finish()
        .try_init()
        .unwrap();
}

/// The lines with something planted in them.
pub(crate) fn leaks() -> Vec<String> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// How much was looked at.
pub(crate) fn seen_bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Whether something planted is in a text.
pub(crate) fn is_leak(text: &str) -> bool {
    TRACES.iter().any(|trace| text.contains(trace))
}

struct Watcher;

impl Write for Watcher {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BYTES.fetch_add(line.len() as u64, Ordering::Relaxed);
        let text = String::from_utf8_lossy(line);
        if is_leak(&text) {
            FOUND
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(text.to_string());
        }
        // What a person reading a failed test wants to see.
        if std::env::var_os("BURSAR_TEST_LOG").is_some()
            && (text.contains("bursar_operator") || text.contains("bursar_vault"))
            && !text.contains("TRACE")
        {
            eprint!("{text}");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
