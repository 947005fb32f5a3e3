//! Load by `wrk`: one client thread that keeps any number of connections busy.
//!
//! A load generator of our own would have to be as fast as the servers it
//! measures; this one is known to be, and is in Debian.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

/// The Lua script that makes the request and prints the result.
const SCRIPT: &str = include_str!("access.lua");
const SCRIPT_FILE: &str = "access.lua";
const REQUEST_FILE: &str = "request";

/// How much longer than asked `wrk` may take.
const GRACE: Duration = Duration::from_secs(15);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum WrkError {
    /// The script or the request could not be written.
    #[error("cannot write the load script: {0}")]
    Script(io::Error),
    /// wrk is missing or could not be started.
    #[error("cannot run wrk: {0}; install the package wrk")]
    Start(io::Error),
    /// wrk went on beyond its time.
    #[error("wrk against {url} did not end in time")]
    TooSlow {
        /// What was measured.
        url: String,
    },
    /// wrk printed no result.
    #[error("wrk against {url} gave no result: {said}")]
    NoResult {
        /// What was measured.
        url: String,
        /// Its standard error.
        said: String,
    },
    /// Requests failed, so that the figures say nothing.
    #[error("{failed} of {requests} requests to {url} failed; look at the log of the server there")]
    Failed {
        /// What was measured.
        url: String,
        /// Requests without a good answer.
        failed: u64,
        /// All requests.
        requests: u64,
    },
}

/// The request that is sent again and again.
///
/// Holds a workload's JWT: hence no `Debug`.
pub struct Request<'a> {
    /// The workload's JWT.
    pub bearer: &'a str,
    /// The JSON body; one line.
    pub body: &'a str,
}

/// How hard to press.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections kept busy, each with one request at a time.
    pub connections: u32,
    /// For how long; whole seconds.
    pub duration: Duration,
}

/// What one run has measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Answers a second.
    pub requests_per_second: f64,
    /// Answers in all.
    pub requests: u64,
    /// Half of the answers came within this many milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 answers came within this many milliseconds.
    pub p99_ms: f64,
}

#[derive(Deserialize)]
struct Line {
    requests: u64,
    duration_us: u64,
    p50_us: u64,
    p99_us: u64,
    failed: u64,
}

/// `wrk` with a request to send.
#[derive(Debug)]
pub struct Wrk<'a> {
    folder: &'a Path,
}

impl<'a> Wrk<'a> {
    /// Writes script and request into `folder`, which must be private.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn new(folder: &'a Path, request: &Request<'_>) -> Result<Self, WrkError> {
        let line = format!("{}\n{}\n", request.bearer, request.body);
        std::fs::write(folder.join(SCRIPT_FILE), SCRIPT).map_err(WrkError::Script)?;
        std::fs::write(folder.join(REQUEST_FILE), line).map_err(WrkError::Script)?;
        Ok(Self { folder })
    }

    /// Sends the request to `url` for as long as `load` says.
    ///
    /// # Errors
    /// When wrk does not run to its end, or a single request failed.
    pub async fn run(&self, url: &str, load: Load) -> Result<Measured, WrkError> {
        let mut command = Command::new("wrk");
        command
            .args(["--threads", "1"])
            .args(["--connections", &load.connections.to_string()])
            .args(["--duration", &format!("{}s", load.duration.as_secs())])
            .args(["--timeout", "10s"])
            .arg("--script")
            .arg(self.folder.join(SCRIPT_FILE))
            .arg(url)
            .arg("--")
            .arg(self.folder.join(REQUEST_FILE))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(load.duration + GRACE, command.output())
            .await
            .map_err(|_| WrkError::TooSlow {
                url: url.to_owned(),
            })?
            .map_err(WrkError::Start)?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        let line = last_line(&output.stdout).ok_or_else(|| WrkError::NoResult {
            url: url.to_owned(),
            said: said(),
        })?;
        measured(&line, url)
    }
}

fn last_line(stdout: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(stdout);
    serde_json::from_str(text.lines().last()?).ok()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and times stay far below 2^52"
)]
fn measured(line: &Line, url: &str) -> Result<Measured, WrkError> {
    if line.failed > 0 || line.requests == 0 || line.duration_us == 0 {
        return Err(WrkError::Failed {
            url: url.to_owned(),
            failed: line.failed,
            requests: line.requests,
        });
    }
    Ok(Measured {
        requests_per_second: line.requests as f64 * 1e6 / line.duration_us as f64,
        requests: line.requests,
        p50_ms: line.p50_us as f64 / 1e3,
        p99_ms: line.p99_us as f64 / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &[u8] = b"Running 1s test\n\
        {\"requests\":3000,\"duration_us\":1500000,\"p50_us\":330,\"p99_us\":1200,\"failed\":0}\n";

    #[test]
    fn a_rate_is_requests_over_the_time_that_was_really_taken() {
        let measured = measured(&last_line(OUTPUT).unwrap(), "url").unwrap();
        assert_eq!(measured.requests_per_second, 2000.0);
        assert_eq!(measured.p50_ms, 0.33);
        assert_eq!(measured.p99_ms, 1.2);
    }

    #[test]
    fn a_failed_request_spoils_the_measurement() {
        let line = Line {
            failed: 1,
            ..last_line(OUTPUT).unwrap()
        };
        assert!(matches!(
            measured(&line, "url"),
            Err(WrkError::Failed { failed: 1, .. })
        ));
    }

    #[test]
    fn output_without_a_result_is_no_measurement() {
        assert!(last_line(b"unable to connect\n").is_none());
        assert!(last_line(b"").is_none());
    }
}
