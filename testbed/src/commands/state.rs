//! The folder `target/testbed`: what `up` leaves for people and for `down`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// In the repository, wherever cargo's target folder is, so that people find it.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/testbed");

/// The folder `target/testbed`.
pub(crate) struct State {
    folder: PathBuf,
}

/// A process, told apart from a later one with the same id by when it started.
#[derive(PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: i32,
    start_time: String,
}

impl State {
    pub(crate) fn open() -> Self {
        Self {
            folder: Path::new(FOLDER).to_owned(),
        }
    }

    /// Makes the folder anew.
    pub(crate) fn create(&self) -> io::Result<()> {
        self.remove()?;
        fs::create_dir_all(&self.folder)
    }

    /// Removes the folder and all in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What the testbed's process says.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Where the folder with everybody's logs is linked to.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The file to be sourced by shells; there once everything runs.
    pub(crate) fn env(&self) -> PathBuf {
        self.folder.join("env")
    }

    /// Writes the file to be sourced, in one step. `bin` goes before whatever `PATH` is
    /// there then.
    pub(crate) fn write_env(&self, bin: &Path, variables: &[(&str, OsString)]) -> io::Result<()> {
        let path = format!("export PATH={}:\"$PATH\"\n", quoted(bin.as_os_str()));
        let others = variables
            .iter()
            .filter(|(name, _)| *name != "PATH")
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)));
        let lines: String = others.chain([path]).collect();
        let fresh = self.folder.join("env.new");
        fs::write(&fresh, lines)?;
        fs::rename(fresh, self.env())
    }

    /// Records this process as the one that runs the testbed.
    pub(crate) fn own(&self) -> io::Result<()> {
        let pid = process::id().cast_signed();
        let start_time = start_time(pid).ok_or(io::ErrorKind::NotFound)?;
        fs::write(self.folder.join("pid"), format!("{pid} {start_time}\n"))
    }

    /// The process that runs the testbed, if it still does.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let record = fs::read_to_string(self.folder.join("pid")).ok()?;
        let (pid, recorded) = record.trim_end().split_once(' ')?;
        let owner = Owner {
            pid: pid.parse().ok()?,
            start_time: recorded.to_owned(),
        };
        owner.runs().then_some(owner)
    }
}

impl Owner {
    /// Whether this very process still runs.
    pub(crate) fn runs(&self) -> bool {
        start_time(self.pid).is_some_and(|time| time == self.start_time)
    }
}

/// In clock ticks since the machine started (proc(5), field 22); `None` for a process that
/// has ended.
fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let ended = fields.next() == Some("Z");
    (!ended)
        .then(|| fields.nth(18).map(str::to_owned))
        .flatten()
}

/// For a POSIX shell.
pub(super) fn quoted(value: &OsStr) -> String {
    format!("'{}'", value.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_any_value() {
        for value in ["plain", "it's", "$(false) `false` \\ \"", "two\nlines"] {
            let script = format!("printf %s {}", quoted(OsStr::new(value)));
            let output = process::Command::new("sh").args(["-c", &script]).output();
            assert_eq!(output.unwrap().stdout, value.as_bytes());
        }
    }

    #[test]
    fn a_process_that_has_ended_has_no_start_time() {
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(start_time(pid).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }
}
