//! The objects of `examples/quickstart` and the broker of the pod among them.

use std::os::unix::fs::symlink;

use super::install::{apply, wait_ready};
use super::operator::Operator;
use super::sidecar::Sidecar;
use super::{BursarError, at, program};
use crate::handle::Handle;
use crate::progress::Step;

const NAMESPACE: &str = "team-a";
const POD: &str = "app";
const USER: &str = "ana";
const CLI: &str = "kubectl-bursar";

/// Everything a newcomer's first tour needs, running; stopped when dropped.
#[derive(Debug)]
pub struct Quickstart {
    // Dropped in this order: the broker says goodbye to the vault.
    sidecar: Sidecar,
    operator: Operator,
}

impl Quickstart {
    /// Starts the operator, applies `examples/quickstart`, and starts the broker of its
    /// pod, telling each step on standard error.
    ///
    /// # Errors
    /// When a part does not start, or an object of the example is not ready in a minute.
    pub async fn start(testbed: &Handle) -> Result<Self, BursarError> {
        let step = Step::quiet("kinds, rights, policies and bursar-operator");
        let operator = Operator::start(testbed).await?;
        step.done("ready");

        // Where kubectl finds it, and whoever has the testbed's PATH.
        let cli = testbed.bin().join(CLI);
        symlink(program(CLI)?, &cli).map_err(at(&cli))?;

        let step = Step::quiet("examples/quickstart");
        apply(testbed, "examples/quickstart").await?;
        wait_ready(testbed, NAMESPACE, "tokenusers,storedtokens").await?;
        step.done("applied and ready");

        let step = Step::quiet("bursar-broker");
        let folder = testbed.folder().join("sidecar");
        let vault = operator.vault_url();
        let sidecar = Sidecar::start(testbed, &vault, NAMESPACE, POD, &folder).await?;
        step.done("ready");
        Ok(Self { sidecar, operator })
    }

    /// The broker of the example's pod.
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// The variables by which people and scripts find it all.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "DATABASE_URL",
                self.operator.database().superuser_url.clone(),
            ),
            ("BURSAR_URL", self.sidecar.url()),
            (
                "BURSAR_TOKEN_FILE",
                self.sidecar.token_file().display().to_string(),
            ),
            ("BURSAR_USER", USER.to_owned()),
            ("BURSAR_NAMESPACE", NAMESPACE.to_owned()),
            ("BURSAR_BROKER_METRICS", self.sidecar.metrics_url()),
            ("BURSAR_OPERATOR_METRICS", self.operator.metrics_url()),
            ("BURSAR_VAULT", self.operator.vault_url()),
            ("BURSAR_PEOPLE", self.operator.people_url()),
            (
                "BURSAR_CA_FILE",
                self.sidecar.authority().display().to_string(),
            ),
        ]
    }
}
