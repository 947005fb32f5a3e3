//! `audit`: the records, oldest first.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bursar_wire::people::{AccessRecord, AuditPage, AuditQuery, LARGEST_PAGE};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::args::{Audit, Filter, Outcome, Output, Show};
use crate::error::CliError;
use crate::output::{line, print};
use crate::patience::Patience;
use crate::records::COLUMNS;
use crate::time::Since;
use crate::unread::remark;
use crate::vault::Vault;

/// Records without a limit of one's own, where not all are printed.
const DEFAULT_LIMIT: u32 = 100;
/// The vault looks back 10 seconds; what is older than twice that is not found again.
const FOUND_AGAIN: SignedDuration = SignedDuration::from_secs(20);
/// Between two looks with --follow.
const FOLLOW_PAUSE: Duration = Duration::from_secs(2);

/// Whether the arguments go together.
pub(crate) fn check(filter: &Filter, show: &Show, now: Timestamp) -> Result<(), CliError> {
    let wrong = |text| Err(CliError::Usage(text));
    if show.follow && show.output != Output::Jsonl {
        return wrong("--follow goes with -o jsonl");
    }
    if show.follow && show.limit.is_some() {
        return wrong("--follow goes without --limit");
    }
    if show.follow && filter.until.is_some() {
        return wrong("--follow goes without --until: it goes on with what is recorded later");
    }
    let at = |time: Option<Since>| time.map(|time| time.at(now));
    match (at(filter.since), at(filter.until)) {
        (Some(since), Some(until)) if since >= until => {
            wrong("no time lies between --since and --until: --since has to be the earlier one")
        }
        _ => Ok(()),
    }
}

pub(crate) async fn run(
    vault: &mut Vault,
    Audit { filter, show, .. }: Audit,
    now: Timestamp,
    (out, width): (&mut dyn Write, Option<usize>),
) -> Result<ExitCode, CliError> {
    let query = query(filter, now);
    match (show.output, show.limit) {
        (Output::Jsonl, None) => {
            export(vault, query, show.follow, out).await?;
        }
        (output, limit) => {
            let limit = limit.unwrap_or(DEFAULT_LIMIT);
            let (records, more) = newest(vault, query, limit).await?;
            print(COLUMNS, &records, output, (&mut *out, width))?;
            if output.is_table() {
                remark(match records.as_slice() {
                    [] => format_args!(
                        "No records. What was read a moment ago is on record some seconds later."
                    ),
                    _ => {
                        format_args!("* as claimed by the application, or of people by themselves")
                    }
                });
            }
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
        outcome: filter.outcome.map(Outcome::name),
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

#[cfg(test)]
mod tests {
    use bursar_wire::people::AccessRecord;
    use clap::Parser;
    use jiff::Timestamp;

    use super::{Seen, check};
    use crate::args::{Args, Command};

    #[test]
    fn what_never_ends_or_finds_nothing_is_refused() {
        let checked = |line: &str| {
            let args = format!("kubectl-bursar audit {line}");
            let args = Args::try_parse_from(args.split(' ')).unwrap();
            let Command::Audit(audit) = args.command else {
                panic!("not audit");
            };
            let now = "2026-11-21T12:00:00Z".parse().unwrap();
            check(&audit.filter, &audit.show, now).map_err(|error| error.to_string())
        };
        for (line, told) in [
            ("--follow", "-o jsonl"),
            ("--follow -o table", "-o jsonl"),
            ("--follow -o jsonl --limit 5", "--limit"),
            ("--follow -o jsonl --until 1h", "--until"),
            ("--since 1h --until 1h", "--since"),
            ("--since 1h --until 2h", "--since"),
            ("--since 2026-11-21T11:00:00Z --until 1h", "--since"),
        ] {
            let refused = checked(line).unwrap_err();
            assert!(refused.contains(told), "{line}: {refused}");
        }
        for line in [
            "--since 2h --until 1h",
            "--follow -o jsonl --since 1h",
            "--until 1h",
        ] {
            assert_eq!(checked(line), Ok(()), "{line}");
        }
    }

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
