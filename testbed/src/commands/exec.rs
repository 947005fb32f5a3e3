//! `testbed exec -- COMMAND`: a testbed around one command.

use std::error::Error;
use std::ffi::OsString;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

use bursar_testbed::{Testbed, adopt_descendants, end_descendants};

use super::child;
use super::signals::Signals;

/// How many tests the test programs of Rust run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

pub(crate) async fn run(
    command: &[OsString],
    signals: &mut Signals,
) -> Result<ExitCode, Box<dyn Error>> {
    adopt_descendants()?;
    let testbed = signals.guard(Testbed::start()).await??;
    let mut environment = testbed.environment();
    if std::env::var_os(TEST_THREADS).is_none() {
        environment.push((TEST_THREADS, test_threads().to_string().into()));
    }
    let code = child::run(command, environment, signals).await?;
    // Nothing is said from here on: the command's own last lines stay the last.
    drop(testbed);
    end_descendants();
    Ok(code)
}

/// Tests wait for more than half of their time: on few processors, twice as many of them
/// at once.
fn test_threads() -> usize {
    let processors = available_parallelism().map_or(1, NonZero::get);
    processors.max((2 * processors).min(8))
}
