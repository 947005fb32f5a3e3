//! `testbed down`: ends what `testbed up` started.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use bursar_testbed::{Step, until};
use rustix::process::{Pid, Signal, kill_process};

use super::state::State;

/// Longer than all its processes may take to stop, one after another.
const STOP_LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let state = State::open();
    let Some(owner) = state.owner() else {
        state.remove()?;
        eprintln!("testbed: not up");
        return Ok(ExitCode::SUCCESS);
    };
    let step = Step::quiet("down:");
    let pid = Pid::from_raw(owner.pid).ok_or("target/testbed/pid holds no process id")?;
    kill_process(pid, Signal::TERM)?;
    let ended = until(STOP_LIMIT, Duration::from_millis(50), async || {
        (!owner.runs()).then_some(())
    });
    if ended.await.is_none() {
        // Its children and its folder go with it, if less gently.
        kill_process(pid, Signal::KILL)?;
    }
    state.remove()?;
    step.done("everything is stopped and removed");
    eprintln!(
        "testbed: a shell that has read target/testbed/env still points to it; open a new one"
    );
    Ok(ExitCode::SUCCESS)
}
