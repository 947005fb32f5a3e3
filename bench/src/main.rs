//! `make bench`: measures everything and shows it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use bursar_bench::{report, run};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Measures Bursar as it ships, beside a bare server. Run it with `make bench`.
#[derive(Parser)]
#[command(name = "bursar-bench")]
struct Flags {
    /// The folder to write bench/summary.json to
    #[arg(long, default_value = "target", value_name = "FOLDER")]
    target: PathBuf,
    #[command(flatten)]
    plan: run::Plan,
}

// One thread: the kernel ends the processes we start with the thread that started them,
// and the other cores are left to what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match measure(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(flags: Flags) -> Result<(), Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let rows = tokio::select! {
        rows = run::run(flags.plan) => rows?,
        // What has been started is ended when the run is dropped.
        _ = interrupt.recv() => return Err("interrupted".into()),
        _ = terminate.recv() => return Err("terminated".into()),
    };
    let path = report::write(&flags.target, &rows)?;
    print!("{}", report::table(&rows));
    if let Some(machine) = rows.first() {
        println!("machine: {}", machine.how);
    }
    if rows.iter().any(|row| row.ratio.is_some()) {
        println!("As far as the control's ratio is from 1, so far may the other ratios be off.");
    }
    eprintln!("bench: written to {}", path.display());
    Ok(())
}
