//! `quotas`: how much of each is used, and by whom.

use std::io::Write;
use std::process::ExitCode;

use bursar_wire::people::{QuotaQuery, QuotaUse, QuotaUses, QuotaWindow};

use crate::args::Quotas;
use crate::error::CliError;
use crate::output::print;
use crate::patience::Patience;
use crate::table::{Column, When, column, or_none, seconds};
use crate::unread::remark;
use crate::vault::Vault;

const COLUMNS: &[Column<QuotaUse>] = &[
    column("NAME", When::Always, true, |q| q.name.clone()),
    column("SUBJECT", When::Always, true, |q| q.subject.clone()),
    column("USER", When::Always, true, |q| or_none(q.user.as_ref())),
    column("COUNTER", When::Always, true, |q| q.counter.clone()),
    column("USED", When::Always, false, |q| q.used.to_string()),
    column("HELD", When::Always, false, |q| q.held.to_string()),
    column("LIMIT", When::Always, false, |q| q.limit.to_string()),
    column("ENFORCEMENT", When::Always, false, |q| {
        q.enforcement.clone()
    }),
    column("WINDOW", When::Always, false, window),
    column("RESETS", When::Filled, false, |q| {
        q.resets_time.map(seconds).unwrap_or_default()
    }),
];

/// Users of a quota for each user, without a limit of one's own.
const DEFAULT_LIMIT: u32 = 100;

pub(crate) async fn run(
    vault: &mut Vault,
    asked: Quotas,
    (out, width): (&mut dyn Write, Option<usize>),
) -> Result<ExitCode, CliError> {
    let query = QuotaQuery {
        name: asked.name,
        user: asked.user,
        limit: Some(asked.limit.unwrap_or(DEFAULT_LIMIT)),
    };
    let found: QuotaUses = vault
        .post("tokenquotas/query", &query, Patience::reading())
        .await?;
    print(COLUMNS, &found.quotas, asked.output, (out, width))?;
    if found.damaged {
        remark(format_args!(
            "Some quotas, or the list of them, are not as the vault wrote them: some may be missing \
             here, and nothing is granted in {} until the operator has written them anew from the \
             objects. Find out who can write to the database.",
            vault.namespace
        ));
        return Ok(ExitCode::FAILURE);
    }
    if found.quotas.is_empty() {
        remark(format_args!("{}", nothing(&query, &vault.namespace)));
        // As with kubectl get: none at all is an answer, a wrong name is an error.
        let is_named = query.name.is_some() || query.user.is_some();
        return Ok(if is_named {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        });
    }
    if found.truncated {
        remark(format_args!(
            "These are the first 10,000 lines: ask for a TokenQuota by its name, or with --user."
        ));
    }
    if found.more && asked.limit.is_none() {
        remark(format_args!(
            "Of a quota for each user, the {DEFAULT_LIMIT} who used most; --limit shows more, --user one."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// That there is no such thing, by what was asked.
fn nothing(query: &QuotaQuery, namespace: &str) -> String {
    match (&query.name, &query.user) {
        (None, None) => format!("No TokenQuotas in {namespace}."),
        (Some(name), None) => format!(
            "No TokenQuota {name} of {namespace} is in force: kubectl get tokenquotas says which \
             there are, and what is wrong with them."
        ),
        (None, Some(user)) => format!(
            "No TokenQuota of {namespace} is for user {user}, for each user or for a token of \
             that user, or there is no such TokenUser."
        ),
        (Some(name), Some(user)) => format!(
            "TokenQuota {name} of {namespace} is not for user {user}, for each user or for a \
             token of that user, or one of them does not exist."
        ),
    }
}

/// The length of a window, as a TokenQuota's spec has it (GEP-2257).
fn window(quota: &QuotaUse) -> String {
    let QuotaWindow::Period {
        period_seconds: seconds,
    } = quota.window
    else {
        return "Lifetime".to_owned();
    };
    let parts = [
        (seconds / 3600, 'h'),
        (seconds % 3600 / 60, 'm'),
        (seconds % 60, 's'),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    parts
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use bursar_wire::people::{QuotaQuery, QuotaUse, QuotaWindow};

    use super::{COLUMNS, nothing};
    use crate::table::print;

    fn quota() -> QuotaUse {
        QuotaUse {
            name: "daily".to_owned(),
            subject: "each user".to_owned(),
            user: Some("ana".to_owned()),
            counter: "accesses".to_owned(),
            enforcement: "Enforce".to_owned(),
            limit: 1_000,
            used: 740,
            held: 40,
            remaining: 260,
            window: QuotaWindow::Period {
                period_seconds: 86_400,
            },
            resets_time: Some("2026-11-22T00:00:00Z".parse().unwrap()),
        }
    }

    fn lines(quotas: &[QuotaUse]) -> Vec<String> {
        let mut out = Vec::new();
        print(COLUMNS, quotas, false, Some(120), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_quota_is_told_with_its_window_and_what_is_held() {
        let lines = lines(&[quota()]);
        assert_eq!(
            lines,
            [
                "NAME   SUBJECT    USER  COUNTER   USED  HELD  LIMIT  ENFORCEMENT  WINDOW  RESETS",
                "daily  each user  ana   accesses  740   40    1000   Enforce      24h     \
                 2026-11-22T00:00:00Z",
            ]
        );
    }

    #[test]
    fn windows_are_written_as_in_a_spec() {
        for (seconds, written) in [
            (None, "Lifetime"),
            (Some(1), "1s"),
            (Some(5_400), "1h30m"),
            (Some(3_601), "1h1s"),
            (Some(604_800), "168h"),
        ] {
            let quota = QuotaUse {
                window: seconds.map_or(QuotaWindow::Lifetime, |period_seconds| {
                    QuotaWindow::Period { period_seconds }
                }),
                resets_time: None,
                ..quota()
            };
            let lines = lines(&[quota]);
            assert!(!lines[0].contains("RESETS"), "{}", lines[0]);
            assert!(lines[1].ends_with(&format!("  {written}")), "{}", lines[1]);
        }
    }

    #[test]
    fn that_there_is_none_is_said_of_what_was_asked() {
        let said = |name: Option<&str>, user: Option<&str>| {
            let query = QuotaQuery {
                name: name.map(str::to_owned),
                user: user.map(str::to_owned),
                limit: None,
            };
            nothing(&query, "team-a")
        };
        assert_eq!(said(None, None), "No TokenQuotas in team-a.");
        let of_name = said(Some("daily"), None);
        assert!(of_name.starts_with("No TokenQuota daily of team-a is in force: kubectl get"));
        let of_user = said(None, Some("bo"));
        assert!(of_user.starts_with("No TokenQuota of team-a is for user bo,"));
        let of_both = said(Some("daily"), Some("bo"));
        assert!(of_both.starts_with("TokenQuota daily of team-a is not for user bo,"));
    }
}
