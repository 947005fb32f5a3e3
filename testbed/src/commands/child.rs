//! A command that runs inside a testbed.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::signals::Signals;

/// Names this program to scripts that run inside a testbed.
pub(crate) const PROGRAM_VARIABLE: &str = "BURSAR_TESTBED";
/// How long a command may take to end after a signal.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Runs `command` to its end with the variables `environment` beside our own; its exit
/// code, as a shell would give it. A signal to us is passed on to the command.
///
/// # Errors
/// When the command cannot be started.
pub(crate) async fn run(
    command: &[OsString],
    environment: Vec<(&'static str, OsString)>,
    signals: &mut Signals,
) -> io::Result<ExitCode> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command to run"))?;
    let mut child = Command::new(program)
        .args(args)
        .envs(environment)
        .env(PROGRAM_VARIABLE, std::env::current_exe()?)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| io::Error::other(format!("{}: {error}", program.display())))?;
    let status = tokio::select! {
        status = child.wait() => status?,
        signal = signals.next() => end(&mut child, signal).await?,
    };
    Ok(exit_code(status))
}

async fn end(child: &mut Child, signal: Signal) -> io::Result<ExitStatus> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, signal);
    }
    if let Ok(status) = tokio::time::timeout(END_LIMIT, child.wait()).await {
        return status;
    }
    child.kill().await?;
    child.wait().await
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let killed = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(killed).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
