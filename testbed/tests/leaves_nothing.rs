//! A testbed that is over has left nothing, however it ended.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bursar_testbed::{shared, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const LIMIT: Duration = Duration::from_secs(60);
const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");

/// A `testbed exec` whose command has told us its folder.
struct Run {
    child: Child,
    folder: PathBuf,
}

impl Run {
    fn start(script: &str) -> Self {
        let tell = format!("dirname $BURSAR_TESTBED_STATE; {script}");
        let mut child = Command::new(TESTBED)
            .args(["exec", "--", "sh", "-c", &tell])
            .stdout(Stdio::piped())
            // A group of its own, so that it can be signalled as a terminal does.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut folder = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut folder).unwrap();
        let folder = PathBuf::from(folder.trim_end());
        assert!(folder.is_dir(), "no testbed in {}", folder.display());
        Self { child, folder }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    async fn end(&mut self) -> ExitStatus {
        until(LIMIT, Duration::from_millis(20), async || {
            self.child.try_wait().unwrap()
        })
        .await
        .expect("testbed exec does not end")
    }
}

/// Processes that have the folder among their arguments or work in it, as Postgres'
/// children do.
fn processes_of(folder: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| {
        let process = entry.ok()?.path();
        let command = fs::read(process.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let works_in = fs::read_link(process.join("cwd")).unwrap_or_default();
        let named = command.contains(folder.to_str()?);
        (named || works_in.starts_with(folder)).then_some(command)
    })
    .collect()
}

#[tokio::test]
async fn the_exit_code_is_the_commands_and_nothing_is_left() {
    let mut run = Run::start("exit 7");
    assert_eq!(run.end().await.code(), Some(7));
    assert_eq!(processes_of(&run.folder), [""; 0]);
    assert!(!run.folder.exists());
}

#[tokio::test]
async fn what_the_command_left_running_is_ended_too() {
    let mut run = Run::start("setsid sh -c 'cd $(dirname $BURSAR_TESTBED_STATE); sleep 600' &");
    assert_eq!(run.end().await.code(), Some(0));
    assert_eq!(processes_of(&run.folder), [""; 0]);
    assert!(!run.folder.exists());
}

#[tokio::test]
async fn a_terminated_testbed_leaves_nothing() {
    let mut run = Run::start("exec sleep 600");
    kill_process(run.pid(), Signal::TERM).unwrap();
    assert_eq!(run.end().await.code(), Some(128 + 15));
    assert_eq!(processes_of(&run.folder), [""; 0]);
    assert!(!run.folder.exists());
}

#[tokio::test]
async fn an_interrupt_from_the_terminal_leaves_nothing() {
    let mut run = Run::start("exec sleep 600");
    kill_process_group(run.pid(), Signal::INT).unwrap();
    assert_eq!(run.end().await.code(), Some(128 + 2));
    assert_eq!(processes_of(&run.folder), [""; 0]);
    assert!(!run.folder.exists());
}

#[tokio::test]
async fn a_killed_testbed_leaves_nothing() {
    // The command itself is not ours to end then; it notices that its output is closed.
    let mut run = Run::start("while echo; do sleep 0.1; done");
    assert!(!processes_of(&run.folder).is_empty());
    kill_process(run.pid(), Signal::KILL).unwrap();
    run.end().await;
    let nothing = until(LIMIT, Duration::from_millis(50), async || {
        (processes_of(&run.folder).is_empty() && !run.folder.exists()).then_some(())
    });
    assert!(
        nothing.await.is_some(),
        "left: {:?}",
        processes_of(&run.folder)
    );
}

#[tokio::test]
async fn given_assets_are_used_instead_of_a_build() {
    let assets = shared().bin();
    let output = Command::new(TESTBED)
        .args(["exec", "--", "sh", "-c"])
        .arg("readlink $(dirname $BURSAR_TESTBED_STATE)/bin/*; kubectl get --raw /readyz")
        .env("KUBEBUILDER_ASSETS", &assets)
        .output()
        .unwrap();
    let expected: String = ["etcd", "kube-apiserver", "kubectl"]
        .map(|program| format!("{}\n", assets.join(program).display()))
        .concat();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected + "ok");
}

#[test]
fn incomplete_assets_are_refused_by_the_name_of_what_is_missing() {
    let output = Command::new(TESTBED)
        .args(["exec", "--", "true"])
        .env("KUBEBUILDER_ASSETS", "/proc")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(message.contains("KUBEBUILDER_ASSETS is /proc"), "{message}");
    assert!(message.contains("no etcd"), "{message}");
}
