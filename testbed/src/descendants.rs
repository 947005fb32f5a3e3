//! Processes that our children started and left behind.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

/// Makes this process the parent of all its orphaned descendants, so that
/// [`end_all`] finds them.
///
/// # Errors
/// When the kernel refuses, which Linux does not.
pub fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Kills every child this process still has, and the children that come to it by that.
/// Call it when nothing of one's own is running any more.
pub fn end_all() {
    // Bounded, because a process in an uninterruptible state cannot be ended by anyone.
    for _ in 0..1_000 {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            let ids = list.split_whitespace();
            ids.filter_map(|id| Pid::from_raw(id.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}
