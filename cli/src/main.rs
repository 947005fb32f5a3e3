//! Wires the command: its arguments, the machine's clock, and standard output.

use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
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
    let finds = args.finds();
    // As many characters as people's terminals have in a line; a file has as many as there are.
    let width = stdout().is_terminal().then_some(120);
    match run(args, &now, &mut stdout(), width).await {
        Ok(code) => code,
        // Whoever reads a listing has seen enough.
        Err(CliError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln: where nobody reads that, it would change the exit code.
            let _ = writeln!(stderr(), "kubectl-bursar: {error}");
            match error.is_usage() || finds {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}
