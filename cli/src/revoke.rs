//! `revoke`: at once, and with `--wait` until no broker can serve it any more.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bursar_wire::people::{Progress, Revocation, RevokeRequest};
use tokio::time::Instant;

use crate::args::Revoke;
use crate::error::CliError;
use crate::patience::Patience;
use crate::table::seconds;
use crate::time::for_people;
use crate::unread::remark;
use crate::vault::{Vault, segment};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn run(
    vault: &mut Vault,
    revoke: &Revoke,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let start = Instant::now();
    let path = format!("storedtokens/{}/revocation", segment(&revoke.token));
    let through_version = match revoke.through_version {
        Some(through) => through,
        // Asked for once: a version that comes while this is tried again is not meant.
        None => {
            vault
                .get::<Progress>(&path, Patience::quick())
                .await?
                .newest_version
        }
    };
    let request = RevokeRequest { through_version };
    let revoked = vault.post(&path, &request, Patience::quick()).await;
    let revoked: Revocation = revoked.map_err(|error| uncertain(through_version, error))?;
    let name = format!("{}/{}", vault.namespace, revoke.token);
    let before = if revoked.is_new {
        ""
    } else {
        ", as they were before"
    };
    let through = revoked.through_version;
    writeln!(
        out,
        "{name}: all versions up to {through} are revoked{before}"
    )?;
    if revoked.newest_version > through {
        let newest = revoked.newest_version;
        writeln!(
            out,
            "version {newest} is the newest, and goes on being served"
        )?;
    } else if revoked.generated {
        writeln!(
            out,
            "its values are generated: while its source says so, a new version is made in its \
             place and served; to stop that, suspend its user or delete the StoredToken"
        )?;
    }
    out.flush()?;
    if !revoke.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let (progress, complete) = wait(vault, &path, start + revoke.timeout).await?;
    receipt(&name, &revoked, &progress, start.elapsed(), out)?;
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        remark(format_args!(
            "not complete within {}",
            for_people(revoke.timeout)
        ));
        ExitCode::FAILURE
    })
}

/// What is refused was not done; anything else may have been, and its answer lost.
fn uncertain(through_version: u32, error: CliError) -> CliError {
    match error {
        CliError::Refused(problem) if problem.status < 500 => CliError::Refused(problem),
        error => CliError::Uncertain {
            through_version,
            source: Box::new(error),
        },
    }
}

/// Looks until it is complete, or until `deadline`; tells when something changed.
async fn wait(
    vault: &mut Vault,
    path: &str,
    deadline: Instant,
) -> Result<(Progress, bool), CliError> {
    let mut told = None;
    loop {
        let progress: Progress = vault
            .get(path, Patience::quick().at_least_until(deadline))
            .await?;
        if progress.complete {
            return Ok((progress, true));
        }
        if Instant::now() >= deadline {
            return Ok((progress, false));
        }
        let now = (progress.brokers_open, progress.brokers_confirmed);
        if told != Some(now) {
            remark(format_args!("{}", waiting(&progress)));
            told = Some(now);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn waiting(progress: &Progress) -> String {
    let have = |count| if count == 1 { "has" } else { "have" };
    let (open, confirmed) = (progress.brokers_open, progress.brokers_confirmed);
    let certain = progress.certain_time.map(seconds).unwrap_or_default();
    format!(
        "waiting: {} {} not given it back, {} {}; certain at {certain} whatever happens",
        brokers(open),
        have(open),
        brokers(confirmed),
        have(confirmed),
    )
}

fn receipt(
    name: &str,
    revoked: &Revocation,
    progress: &Progress,
    took: Duration,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let last_serve = last_serve(revoked, progress);
    let not_confirmed = match progress.brokers_lapsed {
        0 => "none".to_owned(),
        lapsed => format!("{} (what they held has ended by itself)", brokers(lapsed)),
    };
    writeln!(out, "token          {name}")?;
    writeln!(
        out,
        "revoked        all versions up to {}",
        progress.through_version.unwrap_or(revoked.through_version)
    )?;
    writeln!(out, "revoked at     {}", revoked.revoked_time)?;
    writeln!(
        out,
        "confirmed      {}",
        brokers(progress.brokers_confirmed)
    )?;
    writeln!(out, "not confirmed  {not_confirmed}")?;
    if progress.brokers_open > 0 {
        writeln!(out, "still open     {}", brokers(progress.brokers_open))?;
    }
    writeln!(out, "last serve     {last_serve}")?;
    if revoked.generated && revoked.newest_version <= revoked.through_version {
        writeln!(
            out,
            "in its place   a new version, generated and served unless source or user are changed"
        )?;
    }
    writeln!(out, "took           {}", for_people(took))?;
    out.flush()?;
    Ok(())
}

/// What is on record of it, and how many may have served without its being on record.
fn last_serve(revoked: &Revocation, progress: &Progress) -> String {
    let unknown = progress.brokers_open + progress.brokers_lapsed;
    let on_record = match progress.last_served_time {
        Some(time) if time > revoked.revoked_time => {
            format!("{time}, after the revocation (by brokers' clocks)")
        }
        Some(time) if unknown == 0 => {
            format!("{time}; none on record after the revocation (by brokers' clocks)")
        }
        Some(time) => format!("{time} on record"),
        None => "none on record".to_owned(),
    };
    match unknown {
        0 => on_record,
        unknown => format!("{on_record}; unknown for {}", brokers(unknown)),
    }
}

fn brokers(count: u64) -> String {
    match count {
        1 => "1 broker".to_owned(),
        count => format!("{count} brokers"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar_wire::people::{Progress, Revocation};

    use super::{receipt, waiting};

    fn revoked() -> Revocation {
        Revocation {
            through_version: 2,
            newest_version: 2,
            generated: false,
            is_new: true,
            revoked_time: "2026-11-21T10:00:00Z".parse().unwrap(),
        }
    }

    fn progress(last_served: Option<&str>, open: u64, lapsed: u64) -> Progress {
        Progress {
            newest_version: 2,
            through_version: Some(2),
            complete: open == 0,
            brokers_open: open,
            brokers_confirmed: 1,
            brokers_lapsed: lapsed,
            certain_time: None,
            last_served_time: last_served.map(|time| time.parse().unwrap()),
        }
    }

    fn receipt_of(revoked: &Revocation, progress: &Progress) -> String {
        let mut out = Vec::new();
        let took = Duration::from_millis(400);
        receipt("team/github", revoked, progress, took, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn printed(last_served: Option<&str>, open: u64, lapsed: u64) -> String {
        receipt_of(&revoked(), &progress(last_served, open, lapsed))
    }

    #[test]
    fn the_receipt_tells_what_is_generated_in_the_place_of_the_newest_version_and_of_no_other() {
        let told = |through_version, generated| {
            let revoked = Revocation {
                through_version,
                generated,
                ..revoked()
            };
            receipt_of(&revoked, &progress(None, 0, 0)).contains("in its place   a new version")
        };
        assert!(told(2, true) && told(3, true));
        assert!(!told(1, true) && !told(2, false));
    }

    #[test]
    fn while_it_waits_it_counts_brokers_in_the_singular_too() {
        let one = waiting(&progress(None, 1, 0));
        assert!(
            one.starts_with("waiting: 1 broker has not given it back, 1 broker has; "),
            "{one}"
        );
        let two = waiting(&progress(None, 2, 0));
        assert!(two.contains("2 brokers have not given"), "{two}");
    }

    #[test]
    fn the_receipt_tells_who_confirmed_and_what_was_served_last() {
        let before = printed(Some("2026-11-21T09:59:59Z"), 0, 0);
        assert!(before.contains("confirmed      1 broker\n"), "{before}");
        assert!(before.contains("not confirmed  none\n"), "{before}");
        let none = "none on record after the revocation (by brokers' clocks)\n";
        assert!(before.contains(none), "{before}");
        assert!(before.contains("took           0.4 s\n"), "{before}");
        let after = printed(Some("2026-11-21T10:00:01Z"), 0, 2);
        assert!(after.contains("not confirmed  2 brokers"), "{after}");
        assert!(after.contains("after the revocation") && !after.contains("none on record"));
        assert!(printed(None, 0, 0).contains("last serve     none on record\n"));
    }

    #[test]
    fn the_receipt_does_not_tell_of_brokers_that_have_not_told() {
        for (open, lapsed, count) in [(1, 0, "1 broker"), (0, 2, "2 brokers"), (1, 2, "3 brokers")]
        {
            for last_served in [
                None,
                Some("2026-11-21T09:59:59Z"),
                Some("2026-11-21T10:00:01Z"),
            ] {
                let text = printed(last_served, open, lapsed);
                assert!(text.contains(&format!("; unknown for {count}\n")), "{text}");
                assert!(
                    !text.contains("after the revocation (") || last_served > Some("2026-11-21T10")
                );
            }
        }
    }
}
