//! Starts the bare server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, io};

use bursar_testbed::{PortsError, Process, ProcessError, Spec, free_port};
use tokio::net::TcpStream;

use crate::answer::Answer;
use crate::workload::ACCESS_PATH;

const START_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no bare server.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// The answer cannot be written down for it.
    #[error("cannot write the bare server's answer: {0}")]
    Answer(#[from] io::Error),
    /// There is no port for it.
    #[error(transparent)]
    Port(#[from] PortsError),
    /// It does not run.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A running bare server, stopped when dropped.
#[derive(Debug)]
pub struct Bare {
    address: SocketAddr,
    _process: Process,
}

impl Bare {
    /// Starts `program`, which gives `answer` to every good request. Its files are
    /// in `folder`, which must be private.
    ///
    /// # Errors
    /// When it does not listen within 10 seconds.
    pub async fn start(program: &Path, folder: &Path, answer: &Answer) -> Result<Self, BareError> {
        let port = free_port()?;
        let file = folder.join(format!("answer-{port}.json"));
        std::fs::write(&file, serde_json::to_vec(answer).map_err(io::Error::from)?)?;
        let log = folder.join(format!("bare-{port}.log"));
        let mut process = Spec::new("bare server", program, log)
            .args(["--port", &port.to_string()])
            .arg("--answer")
            .arg(file)
            .spawn()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process
            .wait_until("an open port", START_LIMIT, async || {
                TcpStream::connect(address).await.ok()
            })
            .await?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// The URL to post to.
    pub fn url(&self) -> String {
        format!("http://{}{ACCESS_PATH}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The program, which cargo builds beside this one and alike.
///
/// # Errors
/// When this program does not know where it is itself.
pub fn program() -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("bare"))
}
