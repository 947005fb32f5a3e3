//! Who does what the README says under "Install" has an operator that works.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bursar_testbed::{Spec, Testbed, free_port};

const LIMIT: Duration = Duration::from_secs(120);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands of a section of the README, block by block.
fn blocks(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, text) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// A machine with the repository, the programs on its PATH, and a cluster and a Postgres.
struct Newcomer {
    testbed: Testbed,
    folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Newcomer {
    async fn new() -> Self {
        let testbed = Testbed::start().await.unwrap();
        let folder = testbed.handle().folder().join("newcomer");
        std::fs::create_dir(&folder).unwrap();
        for part in ["crds", "operator", "examples"] {
            symlink(repository().join(part), folder.join(part)).unwrap();
        }
        let mut environment = testbed.environment();
        let (_, path) = environment
            .iter_mut()
            .find(|(name, _)| *name == "PATH")
            .unwrap();
        // `make build` made the operator.
        let programs = Path::new(env!("CARGO_BIN_EXE_testbed")).parent().unwrap();
        let mut with_programs = programs.as_os_str().to_owned();
        with_programs.push(":");
        with_programs.push(&*path);
        *path = with_programs;
        let server = testbed.handle().postgres();
        environment.extend([
            ("PGHOST", "127.0.0.1".into()),
            ("PGPORT", server.port.to_string().into()),
            ("PGUSER", "postgres".into()),
            ("PGPASSWORD", server.password.clone().into()),
            ("PGSSLMODE", "verify-full".into()),
            ("PGSSLROOTCERT", server.authority.clone().into()),
        ]);
        Self {
            testbed,
            folder,
            environment,
        }
    }

    /// A block, with what stands for this newcomer's own filled in.
    fn shell(&self, block: &str) -> Spec {
        let server = self.testbed.handle().postgres();
        let block = block
            .replace("ONE", "first-password")
            .replace("ANOTHER", "second-password")
            .replace("HOST", &format!("127.0.0.1:{}", server.port))
            .replace("FILE", server.authority.to_str().unwrap());
        let script = format!("cd {}\n{block}", self.folder.display());
        let log = self.folder.join("log");
        let shell = Spec::new("README.md", "bash", log).args(["-euo", "pipefail", "-c", &script]);
        self.environment
            .iter()
            .fold(shell, |shell, (name, value)| shell.env(name, value))
    }

    async fn run(&self, block: &str) {
        let run = self.shell(block).run(LIMIT).await;
        run.unwrap_or_else(|error| panic!("{block}{error}"));
    }
}

#[tokio::test]
async fn the_commands_under_install_lead_to_an_operator_that_realises_the_quickstart() {
    let newcomer = Newcomer::new().await;
    let blocks = blocks("Install");
    let [cluster, database, operator] = blocks.as_slice() else {
        panic!("{blocks:#?}");
    };
    for block in [cluster, database] {
        newcomer.run(block).await;
    }

    // As the pod's own rights would be: those of the manifests, and nobody else's.
    let rights = newcomer.testbed.handle();
    let rights = rights.kubeconfig_for_service_account("bursar-system", "bursar-operator");
    let [vault, people, pages] = [(); 3].map(|()| free_port().unwrap());
    let at = |port| format!("127.0.0.1:{port}");
    // In the shell's place, so that stopping the one stops the other.
    let operator = operator.replace("  bursar-operator", "  exec bursar-operator");
    let mut operator = newcomer
        .shell(&operator)
        .env("KUBECONFIG", rights.await.unwrap())
        .env("BURSAR_LISTEN", at(vault))
        .env("BURSAR_PEOPLE_LISTEN", at(people))
        .env("BURSAR_METRICS_LISTEN", at(pages))
        .spawn()
        .unwrap();
    let readyz = format!("http://{}/readyz", at(pages));
    let ready = operator.wait_until("/readyz", LIMIT, async || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--noproxy", "*", &readyz]);
        curl.output().unwrap().status.success().then_some(())
    });
    ready.await.unwrap_or_else(|error| panic!("{error}"));

    let quickstart = "kubectl apply --filename examples/quickstart
kubectl wait --for=condition=Ready --timeout=60s --all --namespace team-a tokenusers,storedtokens";
    newcomer.run(quickstart).await;
}
