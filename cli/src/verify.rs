//! `audit verify`: whether the records are as the vault wrote them.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bursar_wire::people::{BadPlace, Verification};
use tokio::time::Instant;

use crate::error::CliError;
use crate::patience::Patience;
use crate::table::seconds;
use crate::time::for_people;
use crate::unread::remark;
use crate::vault::Vault;

/// How often a person hears that it is still under way.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

pub(crate) async fn run(vault: &mut Vault, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    let namespace = vault.namespace.clone();
    let start = Instant::now();
    let mut signs = tokio::time::interval_at(start + SIGN_OF_LIFE, SIGN_OF_LIFE);
    let mut answer =
        std::pin::pin!(vault.get::<Verification>("verification", Patience::unbounded()));
    let found = loop {
        tokio::select! {
            found = &mut answer => break found?,
            _ = signs.tick() => {
                remark(format_args!("still verifying ({})", for_people(start.elapsed())));
            }
        }
    };
    let took = for_people(start.elapsed());
    let Verification {
        records,
        chains,
        checkpoints,
        anchored,
        first_bad,
    } = found;
    writeln!(
        out,
        "{namespace}: {records} records in {chains} chains and {checkpoints} checkpoints verified \
         in {took}"
    )?;
    if !anchored {
        remark(format_args!(
            "There is no ConfigMap bursar-audit-checkpoint yet: an older state of the whole \
             database would not be noticed."
        ));
    }
    let Some(bad) = first_bad else {
        writeln!(out, "All are as the vault wrote them, and none is missing.")?;
        return Ok(ExitCode::SUCCESS);
    };
    writeln!(out, "FIRST BAD PLACE: {}", place(&bad))?;
    writeln!(out, "{}", bad.what)?;
    Ok(ExitCode::FAILURE)
}

fn place(bad: &BadPlace) -> String {
    let chain = bad.chain_id.map(|chain| format!("chain {chain}"));
    let record = bad.record_no.map(|number| format!("record {number}"));
    let checkpoint = bad
        .checkpoint_no
        .map(|number| format!("checkpoint {number}"));
    let time = bad.time.map(|time| format!("of {}", seconds(time)));
    let parts = [chain, record, checkpoint, time].into_iter().flatten();
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        "outside all chains".to_owned()
    } else {
        parts.join(", ")
    }
}
