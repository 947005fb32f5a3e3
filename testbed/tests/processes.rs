//! Child processes, which every other part rests on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_testbed::{Folder, ProcessError, Spec, free_port, until};

fn shell(folder: &Folder, script: &str) -> Spec {
    Spec::new("shell", "sh", folder.path().join("log")).args(["-c", script])
}

fn entry(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Ended, if perhaps not yet waited for by its adoptive parent.
fn ended(pid: u32) -> Option<()> {
    let status = fs::read_to_string(entry(pid).join("stat")).unwrap_or_default();
    (status.is_empty() || status.contains(") Z ")).then_some(())
}

#[tokio::test]
async fn a_process_ends_with_the_thread_that_started_it() {
    let folder = Folder::new().unwrap();
    let spec = shell(&folder, "exec sleep 600");
    // Forgotten, so that only the kernel is left to end it.
    let start = move || {
        let process = spec.spawn().unwrap();
        let pid = process.id();
        std::mem::forget(process);
        // Until the shell is there, whose parent's end the kernel was told to watch.
        while fs::read(entry(pid).join("comm")).unwrap() != b"sleep\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        pid
    };
    let pid = std::thread::spawn(start).join().unwrap();
    let limit = Duration::from_secs(30);
    let gone = until(limit, Duration::from_millis(10), async || ended(pid)).await;
    assert_eq!(gone, Some(()));
}

#[tokio::test]
async fn a_dropped_process_has_ended() {
    let folder = Folder::new().unwrap();
    let process = shell(&folder, "exec sleep 600").spawn().unwrap();
    let pid = process.id();
    assert!(entry(pid).exists());
    drop(process);
    assert!(!entry(pid).exists());
}

#[tokio::test]
async fn an_early_end_is_told_with_the_end_of_the_log() {
    let folder = Folder::new().unwrap();
    let mut process = shell(&folder, "seq 100; exit 3").spawn().unwrap();
    let limit = Duration::from_secs(30);
    let error = process
        .wait_until("anything", limit, async || None::<()>)
        .await
        .unwrap_err();
    let ProcessError::Ended { status, tail, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(status.code(), Some(3));
    assert_eq!(tail.lines().count(), 20);
    assert!(tail.ends_with("100"));
}

#[tokio::test]
async fn waiting_has_a_limit_and_its_error_says_for_what() {
    let folder = Folder::new().unwrap();
    let mut process = shell(&folder, "echo still here; exec sleep 600")
        .spawn()
        .unwrap();
    let log = folder.path().join("log");
    let never = async || (fs::read(&log).is_err()).then_some(());
    let limit = Duration::from_secs(2);
    let message = process
        .wait_until("the moon", limit, never)
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("waited 2 s for the moon"), "{message}");
    assert!(message.ends_with("still here"), "{message}");
}

#[test]
fn a_folder_is_gone_when_dropped() {
    let folder = Folder::new().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("file"), "text").unwrap();
    drop(folder);
    assert!(!path.exists());
}

#[test]
fn ports_are_given_out_once() {
    assert_ne!(free_port().unwrap(), free_port().unwrap());
}
