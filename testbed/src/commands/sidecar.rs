//! `testbed sidecar`: one more broker, for another pod of a testbed that is up.

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use bursar_testbed::{Handle, Sidecar, Step, find_shared};
use clap::Args;

use super::signals::Signals;
use super::state::quoted;

/// How often to look whether the testbed is still up.
const LOOK: Duration = Duration::from_secs(1);

/// Whose broker it is.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pod: Pod,
    /// Its namespace: onboarded, and with a TokenUser or StoredToken in it
    #[arg(long, env = "BURSAR_NAMESPACE")]
    namespace: String,
    /// The vault's URL
    #[arg(long, env = "BURSAR_VAULT")]
    vault: Option<String>,
}

/// One of the two.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Pod {
    /// Make a pod of this service account, and remove it in the end
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Use this pod: one like that of examples/quickstart/workload.yaml, without a broker yet
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
}

pub(crate) async fn run(
    arguments: Arguments,
    signals: &mut Signals,
) -> Result<ExitCode, Box<dyn Error>> {
    let Arguments {
        pod: Pod {
            service_account,
            pod,
        },
        namespace,
        vault,
    } = arguments;
    let (Some(testbed), Some(vault)) = (find_shared(), vault) else {
        return Err(
            "no testbed is known to this shell: `make up`, then `. target/testbed/env`".into(),
        );
    };
    let made = match &service_account {
        Some(account) => Some(make_pod(&testbed, &namespace, account).await?),
        None => None,
    };
    let pod = made.clone().or(pod).unwrap_or_default();
    let served = signals.guard(async {
        tokio::select! {
            failed = serve(&testbed, &vault, &namespace, &pod) => failed.map(|never| match never {}),
            () = gone(&testbed) => Ok(()),
        }
    });
    let served = served.await;
    if made.is_some() && testbed.folder().exists() {
        let step = Step::quiet(&format!("pod {namespace}/{pod}"));
        testbed.delete_pod(&namespace, &pod).await?;
        step.done("removed");
    }
    // A signal is how a person ends it.
    served.unwrap_or(Ok(()))?;
    Ok(ExitCode::SUCCESS)
}

/// Its name.
async fn make_pod(
    testbed: &Handle,
    namespace: &str,
    service_account: &str,
) -> Result<String, Box<dyn Error>> {
    let pod = format!("{service_account}-sidecar");
    let step = Step::quiet(&format!(
        "pod {namespace}/{pod} of service account {service_account}"
    ));
    testbed
        .create_pod(namespace, &pod, service_account)
        .await
        .map_err(|error| {
            format!("{error}\nIf a broker for it runs already, use its variables, or give --pod")
        })?;
    step.done("made");
    Ok(pod)
}

/// Says how to reach the broker, and serves for ever.
async fn serve(
    testbed: &Handle,
    vault: &str,
    namespace: &str,
    pod: &str,
) -> Result<Infallible, Box<dyn Error>> {
    let step = Step::begin(&format!(
        "bursar-broker of pod {namespace}/{pod} (once the namespace is onboarded)"
    ));
    let folder = testbed.folder().join(format!("sidecar.{namespace}.{pod}"));
    let sidecar = Sidecar::start(testbed, vault, namespace, pod, &folder).await?;
    step.done("ready");
    eprintln!(
        "testbed: it runs until Ctrl-C or `make down`. To call it as its pod does, in another shell:"
    );
    println!(
        "export BURSAR_URL={} BURSAR_TOKEN_FILE={}",
        quoted(sidecar.url().as_ref()),
        quoted(sidecar.token_file().as_os_str()),
    );
    match sidecar.keep_fresh().await {}
}

/// Waits until somebody has ended the testbed.
async fn gone(testbed: &Handle) {
    while testbed.folder().exists() {
        tokio::time::sleep(LOOK).await;
    }
    eprintln!("testbed: it was ended, and this broker with it");
}
