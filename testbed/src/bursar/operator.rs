//! The operator as a process.

use std::fs;
use std::time::Duration;

use super::install::{self, NAMESPACE};
use super::{BursarError, VAULT_NAME, at, probe, program};
use crate::database::Database;
use crate::files::write_private;
use crate::handle::Handle;
use crate::ports::free_port;
use crate::process::{Process, Spec};

const START_LIMIT: Duration = Duration::from_secs(60);

/// A running operator, stopped when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    database: Database,
    vault_port: u16,
    people_port: u16,
    metrics_port: u16,
}

impl Operator {
    /// Installs kinds, rights, policies and a root key, and starts `bursar-operator` with
    /// the kubeconfig of its own service account and a database of its own, migrated as
    /// its owner; waits until it is ready.
    ///
    /// # Errors
    /// When it is not built, the cluster refuses a manifest, or it is not ready within a
    /// minute.
    pub async fn start(testbed: &Handle) -> Result<Self, BursarError> {
        let program = program("bursar-operator")?;
        testbed.install_bursar().await?;
        let keys = testbed.folder().join("root-key");
        let root_key = install::create_root_key(testbed).await?;
        fs::create_dir(&keys).map_err(at(&keys))?;
        write_private(&keys.join("1"), &root_key).map_err(at(&keys))?;
        let kubeconfig = testbed
            .kubeconfig_for_service_account(NAMESPACE, "bursar-operator")
            .await?;
        let database = testbed.empty_database("bursar").await?;
        let (vault_port, people_port) = (free_port()?, free_port()?);
        let metrics_port = free_port()?;

        let log = testbed.folder().join("operator.log");
        Spec::new("bursar-operator migrate", &program, &log)
            .args(["migrate", "--runtime-role", &database.runtime_role])
            .env("BURSAR_DATABASE_URL", &database.owner_url)
            .run(START_LIMIT)
            .await?;
        let mut process = Spec::new("bursar-operator", program, log)
            .arg("--root-key-dir")
            .arg(&keys)
            .args(["--namespace", NAMESPACE, "--vault-name", VAULT_NAME])
            .args(["--listen", &format!("127.0.0.1:{vault_port}")])
            .args(["--people-listen", &format!("127.0.0.1:{people_port}")])
            .args(["--metrics-listen", &format!("127.0.0.1:{metrics_port}")])
            // Not as arguments: everyone on the machine can read those.
            .env("BURSAR_DATABASE_URL", &database.runtime_url)
            .env("KUBECONFIG", kubeconfig)
            .spawn()?;
        process
            .wait_until("/readyz", START_LIMIT, async || {
                probe::ready(metrics_port).await
            })
            .await?;
        Ok(Self {
            process,
            database,
            vault_port,
            people_port,
            metrics_port,
        })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The vault's URL for brokers.
    pub fn vault_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.vault_port)
    }

    /// The URL of its service for people.
    pub fn people_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.people_port)
    }

    /// The URL of its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.metrics_port)
    }
}
