//! A private Postgres server that speaks nothing but TLS.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::certificates::Authority;
use crate::database::{DatabaseError, Server};
use crate::files::write_private;
use crate::ports::{PortsError, free_port};
use crate::process::{Process, ProcessError, Spec};
use crate::random::{RandomError, password};
use crate::user;
use crate::wait;

const INIT_LIMIT: Duration = Duration::from_secs(60);
/// Generous: after a crash the server first replays its log.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why there is no Postgres server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The server's programs are not installed.
    #[error(
        "Postgres is not installed: install the server's programs (on Debian the package postgresql), version 15 or newer"
    )]
    NotInstalled,
    /// A file could not be read or written.
    #[error("postgres: {path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("postgres: cannot make its certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortsError),
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// One of its processes failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The server answers, but a database or role could not be made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A running Postgres server, stopped when dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    server: Server,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a data folder below `folder` and starts a server on a free port of
    /// 127.0.0.1. It keeps `fsync` on: what it has committed survives [`Self::kill`].
    ///
    /// # Errors
    /// When Postgres is not installed, or does not start within a minute.
    pub async fn start(folder: &Path) -> Result<Self, PostgresError> {
        let server = Server {
            port: free_port()?,
            password: password()?,
            authority: folder.join("postgres-ca.crt"),
        };
        let mut postgres = Self {
            programs: programs()?,
            folder: folder.join("postgres"),
            log: folder.join("postgres.log"),
            server,
            process: None,
        };
        postgres.initialize().await?;
        postgres.run().await?;
        Ok(postgres)
    }

    /// How to reach the server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Ends the server in order ("fast": connections are closed, work is rolled back).
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills the server and all of its processes (SIGKILL), as a crash would: its clients
    /// lose their connections.
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            let children = process.children();
            process.kill();
            signal(&children, Signal::KILL);
        }
    }

    /// Kills (SIGKILL) one of the processes that serve `role`, chosen by `pick`, and tells
    /// whether there was one: the server then ends all connections, and recovers.
    pub fn kill_backend(&self, role: &str, pick: usize) -> bool {
        let mut backends = self.process.as_ref().map(Process::children);
        let backends = backends.get_or_insert_default();
        // Its title is "postgres: ROLE DATABASE CLIENT(PORT) STATE".
        backends.retain(|backend| {
            let title = fs::read(format!("/proc/{}/cmdline", backend.as_raw_nonzero()));
            let title = String::from_utf8_lossy(&title.unwrap_or_default()).into_owned();
            title.starts_with(&format!("postgres: {role} "))
        });
        let chosen = pick
            .checked_rem(backends.len())
            .map(|place| backends[place]);
        signal(chosen.as_slice(), Signal::KILL);
        chosen.is_some()
    }

    /// Stops the server and all of its processes (SIGSTOP) until [`Self::resume`]: nobody
    /// gets an answer, and no connection ends.
    pub fn pause(&mut self) {
        if let Some(process) = &mut self.process {
            process.pause();
            signal(&process.children(), Signal::STOP);
        }
    }

    /// Lets the paused server go on (SIGCONT).
    pub fn resume(&mut self) {
        if let Some(process) = &mut self.process {
            signal(&process.children(), Signal::CONT);
            process.resume();
        }
    }

    /// Starts the server again, on the same port, after ending it if it still runs.
    ///
    /// # Errors
    /// When it does not start within a minute.
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop();
        self.wait_for_children().await;
        self.run().await
    }

    async fn initialize(&self) -> Result<(), PostgresError> {
        let authority = Authority::new("Bursar testbed, Postgres")?;
        let identity = authority.server(&["127.0.0.1", "localhost"])?;
        fs::create_dir(&self.folder).map_err(at(&self.folder))?;
        write(&self.server.authority, authority.certificate())?;
        write(&self.folder.join("server.crt"), &identity.certificate)?;
        write(&self.folder.join("server.key"), &identity.key)?;
        write(&self.folder.join("password"), &self.server.password)?;
        // The only rule: no TLS, no connection; no password, no connection.
        write(
            &self.folder.join("pg_hba.conf"),
            "hostssl all all 127.0.0.1/32 scram-sha-256\n",
        )?;
        self.give_to_postgres().await?;
        self.spec("initdb")
            .arg("--pgdata")
            .arg(self.folder.join("data"))
            .arg("--pwfile")
            .arg(self.folder.join("password"))
            .args(["--username", "postgres", "--auth", "scram-sha-256"])
            .args(["--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .run(INIT_LIMIT)
            .await?;
        Ok(())
    }

    async fn give_to_postgres(&self) -> Result<(), PostgresError> {
        if let Some(owner) = user::for_postgres() {
            Spec::new("chown", "chown", &self.log)
                .args(["--recursive", owner])
                .arg(&self.folder)
                .run(INIT_LIMIT)
                .await?;
        }
        Ok(())
    }

    async fn run(&mut self) -> Result<(), PostgresError> {
        let set = |name: &str, value: &Path| format!("{name}={}", value.display());
        let process = self
            .spec("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("port={}", self.server.port)])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", "ssl=on"])
            .args(["-c", &set("ssl_cert_file", &self.folder.join("server.crt"))])
            .args(["-c", &set("ssl_key_file", &self.folder.join("server.key"))])
            .args(["-c", &set("hba_file", &self.folder.join("pg_hba.conf"))])
            // Many tests at once, each with a pool of its own.
            .args(["-c", "max_connections=400"])
            // In the data folder instead of /dev/shm, where a crash would leave it.
            .args(["-c", "dynamic_shared_memory_type=mmap"])
            .signals(Signal::INT, "QUIT")
            .spawn()?;
        let process = self.process.insert(process);
        let server = &self.server;
        process
            .wait_until("an answer to a connection", START_LIMIT, async || {
                server.connect("postgres").await.ok().map(drop)
            })
            .await?;
        Ok(())
    }

    fn spec(&self, program: &str) -> Spec {
        Spec::new(program, self.programs.join(program), &self.log).run_as(user::for_postgres())
    }

    /// A killed server's children end when they notice; until then no other server may use
    /// the data folder.
    async fn wait_for_children(&self) {
        // In vain only if one of them hangs: the next start says so better than we could.
        wait::until(START_LIMIT, Duration::from_millis(10), async || {
            let segment = self.memory_segment();
            (!segment.is_some_and(|segment| is_attached(&segment))).then_some(())
        })
        .await;
    }

    /// The System V memory segment of some bytes by which servers on the same data folder
    /// find each other. Its id is the last word of line 7 of `postmaster.pid`, a file that
    /// is there while a server runs and after a crash.
    fn memory_segment(&self) -> Option<String> {
        let lock = fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        let segment = lock.lines().nth(6)?.split_whitespace().last()?;
        Some(segment.to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        // After a crash, what the next server would remove.
        if let Some(segment) = self.memory_segment() {
            let _ = Command::new("ipcrm")
                .args(["--shmem-id", &segment])
                .status();
        }
    }
}

fn signal(processes: &[Pid], signal: Signal) {
    for process in processes {
        // Fails only for one that has ended.
        let _ = kill_process(*process, signal);
    }
}

/// Whether a process still uses the segment: columns 2 (its id) and 7 of sysvipc(5).
fn is_attached(segment: &str) -> bool {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(1) == Some(&segment) && columns.get(6).is_some_and(|count| *count != "0")
    })
}

/// The folder with `initdb` and `postgres`: the newest of Debian's, or else from `PATH`.
fn programs() -> Result<PathBuf, PostgresError> {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let debian = versions.into_iter().rev();
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")))
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .ok_or(PostgresError::NotInstalled)
}

fn write(path: &Path, text: &str) -> Result<(), PostgresError> {
    write_private(path, text.as_bytes()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let path = path.display().to_string();
    move |source| PostgresError::File { path, source }
}
