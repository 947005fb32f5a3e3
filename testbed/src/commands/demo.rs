//! `testbed demo`: everything that `up` starts, around the tour in `demo.sh`.

use std::error::Error;
use std::process::ExitCode;

use bursar_testbed::{Quickstart, Step, Testbed, adopt_descendants, end_descendants};

use super::signals::Signals;
use super::{child, up};

const TOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo.sh");

pub(crate) async fn run(signals: &mut Signals) -> Result<ExitCode, Box<dyn Error>> {
    adopt_descendants()?;
    let (testbed, quickstart) = signals.guard(start()).await??;
    let environment = up::environment(&testbed, &quickstart)?;
    let code = child::run(&[TOUR.into()], environment, signals).await?;
    let step = Step::quiet("demo:");
    drop(quickstart);
    drop(testbed);
    end_descendants();
    step.done("everything is stopped and removed");
    Ok(code)
}

async fn start() -> Result<(Testbed, Quickstart), Box<dyn Error>> {
    let testbed = Testbed::start().await?;
    let quickstart = Quickstart::start(testbed.handle()).await?;
    Ok((testbed, quickstart))
}
