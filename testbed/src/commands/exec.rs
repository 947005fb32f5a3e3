//! `testbed exec -- COMMAND`: a testbed around one command.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use bursar_testbed::{Testbed, adopt_descendants, end_descendants};

use super::child;
use super::signals::Signals;

pub(crate) async fn run(
    command: &[OsString],
    signals: &mut Signals,
) -> Result<ExitCode, Box<dyn Error>> {
    adopt_descendants()?;
    let testbed = signals.guard(Testbed::start()).await??;
    let code = child::run(command, testbed.environment(), signals).await?;
    // Nothing is said from here on: the command's own last lines stay the last.
    drop(testbed);
    end_descendants();
    Ok(code)
}
