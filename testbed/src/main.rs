//! `testbed`: starts a real Kubernetes API and a real Postgres for people and tests.

mod commands;

use std::process::ExitCode;

use clap::Parser;

// One thread: the kernel ends our child processes with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match commands::Arguments::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}
