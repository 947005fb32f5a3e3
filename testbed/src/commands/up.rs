//! `testbed up`: the same as the demo starts, in the background, until `testbed down`.

use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use bursar_testbed::{Quickstart, Testbed, adopt_descendants, end_descendants};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::child::PROGRAM_VARIABLE;
use super::signals::{Interrupted, Signals};
use super::state::State;

/// Starts the background process and shows what it says until everything runs.
pub(crate) async fn start(signals: &mut Signals) -> Result<ExitCode, Box<dyn Error>> {
    let state = State::open();
    if state.owner().is_some() {
        eprintln!("testbed: already up. Next: . target/testbed/env   and in the end: make down");
        return Ok(ExitCode::SUCCESS);
    }
    state.create()?;
    let log = File::create(state.log())?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut progress = File::open(state.log())?;
    let up = tokio::select! {
        up = watch(&mut child, &state, &mut progress) => up?,
        signal = signals.next() => { end(&mut child, signal).await?; false }
    };
    show(&mut progress)?;
    if up {
        eprintln!("testbed: up. Next: . target/testbed/env   and in the end: make down");
        Ok(ExitCode::SUCCESS)
    } else {
        state.remove()?;
        Ok(ExitCode::FAILURE)
    }
}

/// Whether everything runs; false when the process has ended instead. No limit here:
/// each of its steps has one.
async fn watch(child: &mut Child, state: &State, progress: &mut File) -> io::Result<bool> {
    loop {
        show(progress)?;
        if state.env().exists() {
            return Ok(true);
        }
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Copies what is new in the log to standard error.
fn show(progress: &mut File) -> io::Result<()> {
    io::copy(progress, &mut io::stderr())?;
    io::stderr().flush()
}

async fn end(child: &mut Child, signal: Signal) -> io::Result<()> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, signal);
    }
    child.wait().await?;
    Ok(())
}

/// The background process itself.
pub(crate) async fn serve(signals: &mut Signals) -> Result<ExitCode, Box<dyn Error>> {
    // Away from the terminal, whose end and whose Ctrl-C are no business of ours.
    rustix::process::setsid()?;
    adopt_descendants()?;
    let state = State::open();
    state.own()?;
    let outcome = signals.guard(run(&state)).await;
    end_descendants();
    state.remove()?;
    match outcome {
        Ok(failed) => failed.map(|never| match never {}),
        // The only way to end it.
        Err(Interrupted) => Ok(ExitCode::SUCCESS),
    }
}

async fn run(state: &State) -> Result<Infallible, Box<dyn Error>> {
    let testbed = Testbed::start().await?;
    let quickstart = Quickstart::start(testbed.handle()).await?;
    symlink(testbed.handle().folder(), state.logs())?;
    let bin = testbed.handle().bin();
    state.write_env(&bin, &environment(&testbed, &quickstart)?)?;
    match quickstart.sidecar().keep_fresh().await {}
}

/// What scripts and people get: everything by which to find the testbed and Bursar.
pub(crate) fn environment(
    testbed: &Testbed,
    quickstart: &Quickstart,
) -> io::Result<Vec<(&'static str, OsString)>> {
    let own = std::env::current_exe()?;
    let mut all = testbed.environment();
    let bursar = quickstart.environment().into_iter();
    all.extend(bursar.map(|(name, value)| (name, value.into())));
    all.push((PROGRAM_VARIABLE, own.into()));
    Ok(all)
}
