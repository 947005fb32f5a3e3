//! Wires the operator: flags, logs, the machine's clock and randomness, and the signals to end.

use std::process::ExitCode;
use std::sync::Arc;

use bursar_operator::{Command, Config, LogFormat, LogLevel, Machine, Migrate, init_log, run};
use bursar_seal::SystemRandom;
use bursar_vault::SystemClock;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(config) => start(*config).await,
        Command::Migrate(arguments) => migrate(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bursar-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    init_log(config.log_level, config.log_format)?;
    let kubernetes = kube::Config::infer().await?;
    let machine = Machine {
        kubernetes,
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    Ok(run(config, machine, shutdown).await?)
}

async fn migrate(arguments: Migrate) -> Result<(), Box<dyn std::error::Error>> {
    init_log(LogLevel::Info, LogFormat::Text)?;
    let applied = bursar_vault::migrate(&arguments.into()).await?;
    tracing::info!(?applied, "the database has the schema of this release");
    Ok(())
}
