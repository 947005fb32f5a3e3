//! `testbed sidecar`: one more broker, for another pod of a testbed that is up.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use bursar_testbed::{Sidecar, shared};
use clap::Args;

use super::signals::{Interrupted, Signals};

/// Which pod, and where to put what its application needs.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The pod's namespace
    #[arg(long)]
    namespace: String,
    /// The pod's name
    #[arg(long)]
    pod: String,
    /// Folder for the broker's URL (file `url`) and the pod's token (file `token`)
    #[arg(long)]
    state: PathBuf,
    /// The vault's URL
    #[arg(long, env = "BURSAR_VAULT")]
    vault: String,
}

pub(crate) async fn run(
    arguments: Arguments,
    signals: &mut Signals,
) -> Result<ExitCode, Box<dyn Error>> {
    match signals.guard(serve(arguments)).await {
        Ok(failed) => failed.map(|never| match never {}),
        // The only way to end it.
        Err(Interrupted) => Ok(ExitCode::SUCCESS),
    }
}

async fn serve(arguments: Arguments) -> Result<Infallible, Box<dyn Error>> {
    let Arguments {
        namespace,
        pod,
        state,
        vault,
    } = arguments;
    let sidecar = Sidecar::start(&shared(), &vault, &namespace, &pod, &state).await?;
    let fresh = state.join("url.new");
    fs::write(&fresh, sidecar.url())?;
    fs::rename(fresh, state.join("url"))?;
    match sidecar.keep_fresh().await {}
}
