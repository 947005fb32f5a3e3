//! Wires the command: its arguments, the machine's clock, and standard output.

use std::io::{ErrorKind, Write, stderr};
use std::process::ExitCode;

use bursar_cli::{Args, CliError, run};
use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the machine"
    )]
    let now = jiff::Timestamp::now;
    let args = Args::parse();
    let failure = args.failure();
    match run(args, &now, &mut std::io::stdout()).await {
        Ok(code) => code,
        // Whoever reads a listing has seen enough.
        Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln: where nobody reads that, it would change the exit code.
            let _ = writeln!(stderr(), "kubectl-bursar: {error}");
            failure
        }
    }
}
