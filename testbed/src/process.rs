//! Child processes that end with the process that started them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end by itself before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const STOP_POLL: Duration = Duration::from_millis(10);
const READY_POLL: Duration = Duration::from_millis(50);
/// About every ten seconds a person is told what is waited for.
const ATTEMPTS_PER_NOTE: u32 = 200;

/// Why a child process could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started at all.
    #[error(
        "{name}: cannot start {program}: {source} (the testbed needs Linux with util-linux's setpriv)"
    )]
    Start {
        /// The process, as named in its [`Spec`].
        name: String,
        /// The program's path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The log file could not be opened.
    #[error("{name}: cannot open its log {path}: {source}")]
    Log {
        /// The process, as named in its [`Spec`].
        name: String,
        /// The log file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The process ended although it was still needed.
    #[error("{name} ended ({status}); the end of its log {log}:\n{tail}")]
    Ended {
        /// The process, as named in its [`Spec`].
        name: String,
        /// Its exit status.
        status: ExitStatus,
        /// The log file.
        log: String,
        /// The last lines of that log.
        tail: String,
    },
    /// The process runs, but did not do in time what was waited for.
    #[error(
        "{name}: waited {} s for {what}, in vain; the end of its log {log}:\n{tail}",
        limit.as_secs()
    )]
    TooSlow {
        /// The process, as named in its [`Spec`].
        name: String,
        /// What was waited for.
        what: String,
        /// How long was waited.
        limit: Duration,
        /// The log file.
        log: String,
        /// The last lines of that log.
        tail: String,
    },
}

/// What to run, and as whom.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    user: Option<String>,
    stop_signal: Signal,
    orphan_signal: &'static str,
    log: PathBuf,
}

impl Spec {
    /// A process that writes standard output and error to `log`, is stopped with
    /// SIGTERM, and is killed when the thread that started it ends.
    pub fn new(name: &str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            stop_signal: Signal::TERM,
            orphan_signal: "KILL",
            log: log.into(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, beside those inherited.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs the process as `user`; needs root.
    #[must_use]
    pub fn run_as(mut self, user: Option<&str>) -> Self {
        self.user = user.map(str::to_owned);
        self
    }

    /// The signal that asks the process to end (`stop`), and the name of the one it gets
    /// when the thread that started it is gone (`orphan`, such as `KILL`).
    #[must_use]
    pub fn signals(mut self, stop: Signal, orphan: &'static str) -> Self {
        self.stop_signal = stop;
        self.orphan_signal = orphan;
        self
    }

    /// Starts the process.
    ///
    /// The kernel sends the orphan signal when the calling *thread* ends, not the
    /// calling process: call this from a thread that outlives the process, such as the
    /// main thread of a program or the thread of a test, not from a pool.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(self) -> Result<Process, ProcessError> {
        let log = self.open_log()?;
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(log.1)
            .stderr(log.0)
            .spawn()
            .map_err(|source| ProcessError::Start {
                name: self.name.clone(),
                program: self.program.display().to_string(),
                source,
            })?;
        Ok(Process {
            name: self.name,
            log: self.log,
            stop_signal: self.stop_signal,
            child,
        })
    }

    /// Runs the process to its end, at most `limit`.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, or exits with anything but 0.
    pub async fn run(self, limit: Duration) -> Result<(), ProcessError> {
        let mut process = self.spawn()?;
        let status = crate::wait::until(limit, STOP_POLL, async || process.exited()).await;
        match status {
            None => Err(process.too_slow("its end", limit)),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(process.ended(status)),
        }
    }

    fn open_log(&self) -> Result<(File, File), ProcessError> {
        let open = || {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.log)?;
            Ok((file.try_clone()?, file))
        };
        open().map_err(|source| ProcessError::Log {
            name: self.name.clone(),
            path: self.log.display().to_string(),
            source,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(self.orphan_signal);
        if let Some(user) = &self.user {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={user}"))
                .arg("--init-groups");
        }
        command.arg("--").arg(&self.program).args(&self.args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        // Ctrl-C in a terminal reaches the whole foreground group: the children have
        // to outlive it, so that they are stopped in order.
        command.process_group(0);
        command
    }
}

/// A running child process, stopped when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    stop_signal: Signal,
    child: Child,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Polls `ready` until it gives a value, the process ends, or `limit` has passed.
    ///
    /// # Errors
    /// In the last two cases, with the end of the process's log.
    pub async fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, ProcessError> {
        let mut attempts: u32 = 0;
        let answer = crate::wait::until(limit, READY_POLL, async || {
            attempts += 1;
            if attempts.is_multiple_of(ATTEMPTS_PER_NOTE) {
                eprintln!("testbed:   {} is still to show {what} ...", self.name);
            }
            match self.exited() {
                Some(status) => Some(Err(self.ended(status))),
                None => ready().await.map(Ok),
            }
        })
        .await;
        answer.unwrap_or_else(|| Err(self.too_slow(what, limit)))
    }

    /// Asks the process to end and waits for it; kills it after 20 seconds.
    pub fn stop(&mut self) {
        self.signal(self.stop_signal);
        for _ in 0..STOP_LIMIT.as_millis() / STOP_POLL.as_millis() {
            if self.exited().is_some() {
                return;
            }
            thread::sleep(STOP_POLL);
        }
        self.kill();
    }

    /// Kills the process (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only when there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process (SIGSTOP) where it is, until [`Self::resume`].
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// The processes that it started, as far as it started them from its first thread.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let id = self.child.id();
        let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let list = list.unwrap_or_default();
        let ids = list.split_whitespace();
        ids.filter_map(|id| Pid::from_raw(id.parse().ok()?))
            .collect()
    }

    fn signal(&mut self, signal: Signal) {
        // A process that has been waited for has given its id back to the system.
        if self.exited().is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    fn ended(&self, status: ExitStatus) -> ProcessError {
        ProcessError::Ended {
            name: self.name.clone(),
            status,
            log: self.log.display().to_string(),
            tail: tail(&self.log),
        }
    }

    fn too_slow(&self, what: &str, limit: Duration) -> ProcessError {
        ProcessError::TooSlow {
            name: self.name.clone(),
            what: what.to_owned(),
            limit,
            log: self.log.display().to_string(),
            tail: tail(&self.log),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last 20 lines of a log file: what a person would look at first.
pub fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
