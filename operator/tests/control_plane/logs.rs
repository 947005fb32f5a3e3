//! All that this process logs, at trace, searched for what must never be in it.
//!
//! It is searched as it is written, from the first line to the last: the first line with something
//! planted in it ends the process, whichever test is under way, and so fails them all.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar_operator::{LogLevel, log_filter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

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

/// What lines about revocations have, by which a test finds its own.
const REVOKED: &str = "a person revoked a token";

static REVOCATIONS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Looks at every line from now on.
pub(crate) fn watch() {
    registry()
        .with(log_filter(LogLevel::Trace))
        .with(fmt::layer().with_ansi(false).with_writer(|| Watcher))
        .try_init()
        .unwrap();
}

/// How much was looked at.
pub(crate) fn seen_bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// What was logged of revocations in a namespace.
pub(crate) fn revocations(namespace: &str) -> Vec<String> {
    let lines = REVOCATIONS.lock().unwrap();
    let of_it = lines.iter().filter(|line| line.contains(namespace));
    of_it.cloned().collect()
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
            // Past the harness, which would keep it to itself.
            let _ = writeln!(io::stderr(), "this was logged, and must not be: {text}");
            std::process::exit(1);
        }
        if text.contains(REVOKED) {
            REVOCATIONS.lock().unwrap().push(text.to_string());
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
