//! The program's commands, one file each.

mod child;
mod demo;
mod down;
mod exec;
mod sidecar;
mod signals;
mod state;
mod up;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use bursar_testbed::{install_packages, prepare_control_plane, shared};
use clap::{Parser, Subcommand};

use signals::Signals;

/// A real Kubernetes API and a real Postgres for people and tests
#[derive(Parser)]
#[command(name = "testbed", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the packages and build the programs that a testbed needs
    Build,
    /// Run a command inside a fresh testbed; exits with the command's exit code
    Exec {
        /// The command and its arguments
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Make an empty database in the testbed around this process; prints its URL
    Database {
        /// What to name it after
        name: String,
    },
    /// Start testbed, operator, examples and a broker, run testbed/demo.sh, stop them all
    Demo,
    /// Start the same in the background; target/testbed/env tells how to reach it
    Up,
    /// End what `up` started
    Down,
    /// Run one more broker, for another pod, in a testbed that is up
    ///
    /// Prints the variables by which to be that pod. Needs those of target/testbed/env.
    Sidecar(sidecar::Arguments),
    /// The background process of `up`
    #[command(hide = true)]
    Serve,
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        // Caught from the start: from here on a signal ends what we started first.
        let mut signals = Signals::catch()?;
        match self.command {
            Command::Build => {
                signals.guard(install_packages()).await??;
                signals.guard(prepare_control_plane()).await??;
                Ok(ExitCode::SUCCESS)
            }
            Command::Exec { command } => exec::run(&command, &mut signals).await,
            Command::Database { name } => {
                println!("{}", shared().empty_database(&name).await?.superuser_url);
                Ok(ExitCode::SUCCESS)
            }
            Command::Demo => demo::run(&mut signals).await,
            Command::Up => up::start(&mut signals).await,
            Command::Down => down::run().await,
            Command::Sidecar(arguments) => sidecar::run(arguments, &mut signals).await,
            Command::Serve => up::serve(&mut signals).await,
        }
    }
}
