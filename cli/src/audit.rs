//! `audit`: the records, oldest first.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bursar_wire::people::{AccessRecord, AuditPage, AuditQuery, LARGEST_PAGE};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::args::{Filter, Output, Show};
use crate::error::CliError;
use crate::patience::Patience;
use crate::table;
use crate::unread::remark;
use crate::vault::Vault;

/// Records without a limit of one's own, where not all are printed.
const DEFAULT_LIMIT: u32 = 100;
/// The vault looks back 10 seconds; what is older than twice that is not found again.
const FOUND_AGAIN: SignedDuration = SignedDuration::from_secs(20);
/// Between two looks with --follow.
const FOLLOW_PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn run(
    vault: &mut Vault,
    filter: Filter,
    show: &Show,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let query = query(filter, now);
    if show.follow && show.output != Output::Jsonl {
        return Err(CliError::Usage("--follow goes with -o jsonl"));
    }
    if show.follow && show.limit.is_some() {
        return Err(CliError::Usage("--follow goes without --limit"));
    }
    match (show.output, show.limit) {
        (Output::Jsonl, None) => {
            export(vault, query, show.follow, out).await?;
        }
        (output, limit) => {
            let limit = limit.unwrap_or(DEFAULT_LIMIT);
            let (records, more) = newest(vault, query, limit).await?;
            print(&records, output, out)?;
            if more && show.limit.is_none() {
                remark(format_args!(
                    "The newest {limit}; --limit or -o jsonl shows more."
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn query(filter: Filter, now: Timestamp) -> AuditQuery {
    AuditQuery {
        user: filter.user,
        token: filter.token,
        service_account: filter.by_service_account,
        purpose: filter.purpose,
        app: filter.app,
        outcome: filter.outcome,
        since: filter.since.map(|since| since.at(now)),
        until: filter.until.map(|until| until.at(now)),
        ..AuditQuery::default()
    }
}

/// The newest records, oldest first, and whether there are more.
async fn newest(
    vault: &mut Vault,
    mut query: AuditQuery,
    limit: u32,
) -> Result<(Vec<AccessRecord>, bool), CliError> {
    query.newest_first = true;
    let mut records: Vec<AccessRecord> = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
        query.limit = Some(left.clamp(1, LARGEST_PAGE));
        let page: AuditPage = vault
            .post("accessrecords/query", &query, Patience::reading())
            .await?;
        records.extend(page.records);
        if !page.more || records.len() >= limit as usize {
            records.reverse();
            return Ok((records, page.more));
        }
        query.cursor = page.cursor;
    }
}

/// All records, as they come; with `follow` for as long as somebody reads.
async fn export(
    vault: &mut Vault,
    mut query: AuditQuery,
    follow: bool,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    query.follow = follow;
    // What one look found is found again by the next, as far as it is new.
    let mut seen = Seen::default();
    loop {
        let page: AuditPage = vault
            .post("accessrecords/query", &query, Patience::reading())
            .await?;
        let before = seen.0.len();
        for record in &page.records {
            if seen.is_new(record) {
                line(record, out)?;
            }
        }
        out.flush()?;
        let found_new = seen.0.len() > before;
        seen.forget_old();
        query.cursor = page.cursor;
        if !page.more && !follow {
            return Ok(());
        }
        // With more of them, but none that was new, time has to pass first.
        if !page.more || !found_new {
            tokio::time::sleep(FOLLOW_PAUSE).await;
        }
    }
}

/// Records that may be found again, by chain and number, and when they were recorded.
#[derive(Default)]
struct Seen(HashMap<(Uuid, i64), Timestamp>);

impl Seen {
    fn is_new(&mut self, record: &AccessRecord) -> bool {
        let place = (record.chain_id, record.record_no);
        self.0.insert(place, record.recorded_time).is_none()
    }

    /// Forgets what no look goes back to, seen from the newest.
    fn forget_old(&mut self) {
        if let Some(newest) = self.0.values().max().copied() {
            self.0
                .retain(|_, time| newest.duration_since(*time) <= FOUND_AGAIN);
        }
    }
}

fn print(records: &[AccessRecord], output: Output, out: &mut dyn Write) -> Result<(), CliError> {
    match output {
        Output::Table => {
            table::print(records, out)?;
            if records.is_empty() {
                remark(format_args!("No records."));
            } else {
                remark(format_args!(
                    "* as claimed by the application, or of people by themselves"
                ));
            }
        }
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, records).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Jsonl => {
            for record in records {
                line(record, out)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn line(record: &AccessRecord, out: &mut dyn Write) -> Result<(), CliError> {
    serde_json::to_writer(&mut *out, record).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bursar_wire::people::AccessRecord;
    use jiff::Timestamp;

    use super::Seen;

    #[test]
    fn what_may_be_found_again_is_remembered_and_nothing_older() {
        let record = |record_no, second| {
            let time = Timestamp::from_second(second).unwrap();
            AccessRecord {
                recorded_time: time,
                first_time: time,
                last_time: time,
                record_no,
                ..crate::why::tests::refused()
            }
        };
        let mut seen = Seen::default();
        for (number, second) in [(1, 100), (2, 111), (3, 121)] {
            assert!(seen.is_new(&record(number, second)));
        }
        seen.forget_old();
        assert!(!seen.is_new(&record(2, 111)));
        assert!(!seen.is_new(&record(3, 121)));
        assert_eq!(seen.0.len(), 2);
    }
}
