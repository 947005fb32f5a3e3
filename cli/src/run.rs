//! From the command line to the command.

use std::io::Write;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::args::{Args, AuditCommand, Command};
use crate::error::CliError;
use crate::unread::Unread;
use crate::vault::Vault;
use crate::{audit, quotas, revoke, verify, why};

/// Does what the arguments say; results go to `out`, remarks to standard error. A listing ends
/// with a broken pipe when nobody reads `out` any more; other commands go on to their exit code.
/// Tables are cut to `width` characters, if there is one.
///
/// # Errors
/// [`CliError`]. Commands that ran and found something wrong give an exit code instead.
pub async fn run(
    args: Args,
    now: &dyn Fn() -> Timestamp,
    out: &mut dyn Write,
    width: Option<usize>,
) -> Result<ExitCode, CliError> {
    let now = now();
    // Nobody is asked for what cannot be.
    match &args.command {
        Command::Audit(audit) => audit::check(&audit.filter, &audit.show, now)?,
        Command::Why { decision_id } => why::check(decision_id)?,
        Command::Quotas(_) | Command::Revoke(_) => {}
    }
    let service_account = args.service_account();
    let mut vault = Vault::new(&args.global, service_account).await?;
    match args.command {
        Command::Audit(audit) => match audit.command {
            Some(AuditCommand::Verify) => verify::run(&mut vault, &mut Unread(out)).await,
            None => audit::run(&mut vault, audit, now, (out, width)).await,
        },
        Command::Quotas(asked) => quotas::run(&mut vault, asked, (out, width)).await,
        Command::Why { decision_id } => why::run(&mut vault, &decision_id, out).await,
        Command::Revoke(revoke) => revoke::run(&mut vault, &revoke, &mut Unread(out)).await,
    }
}
