//! Wires the broker: flags, logging, protection, parts, signals.

use std::error::Error;
use std::process::ExitCode;

use bursar_broker::clock::SystemClock;
use bursar_broker::{Args, Sidecar, forbid_dumps, logging};
use bursar_seal::SystemRandom;
use clap::Parser as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    if let Err(error) = run() {
        eprintln!("bursar-broker: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run() -> Result<(), Box<dyn Error>> {
    forbid_dumps()?;
    let args = Args::parse();
    logging::start(&args.log_level, args.log_format)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let sidecar = Sidecar::bind(&args, Box::new(SystemClock), Box::new(SystemRandom)).await?;
        Ok(sidecar.run(stop).await?)
    })
}
