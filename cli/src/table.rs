//! Records in columns, whole or cut to fit a terminal.

use std::io::{self, Write};

use bursar_wire::people::AccessRecord;
use jiff::Timestamp;

const GAP: &str = "  ";
/// A cut column still has so many characters.
const NARROWEST: usize = 8;

/// When a column is shown.
#[derive(Clone, Copy, Eq, PartialEq)]
enum When {
    Always,
    /// When a row has something there: what `why` is asked by. Behind the width of the others.
    Denied,
    /// When all columns are.
    Wide,
}

struct Column {
    header: &'static str,
    when: When,
    /// Names and claims. Times, numbers, outcomes and ids are whole.
    may_be_cut: bool,
    cell: fn(&AccessRecord) -> String,
}

const fn column(
    header: &'static str,
    when: When,
    may_be_cut: bool,
    cell: fn(&AccessRecord) -> String,
) -> Column {
    Column {
        header,
        when,
        may_be_cut,
        cell,
    }
}

const COLUMNS: [Column; 13] = [
    column("TIME", When::Always, false, |r| seconds(r.recorded_time)),
    column("COUNT", When::Always, false, |r| r.count.to_string()),
    column("OUTCOME", When::Always, false, |r| r.outcome.clone()),
    column("USER", When::Always, true, |r| or_none(r.user.as_ref())),
    column("TOKEN", When::Always, true, |r| or_none(r.token.as_ref())),
    column("VERSION", When::Always, false, |r| {
        or_none(r.version.as_ref())
    }),
    column("SERVICE ACCOUNT", When::Always, true, |r| {
        r.service_account_name.clone()
    }),
    column("POD", When::Always, true, |r| or_none(r.pod.as_ref())),
    // Of people this is who asked: no less a claim.
    column("APP*", When::Always, true, |r| {
        r.person.as_ref().unwrap_or(&r.app_name).clone()
    }),
    column("PURPOSE*", When::Always, true, |r| r.purpose.clone()),
    column("CODE", When::Denied, false, |r| or_none(r.code.as_ref())),
    column("REASON", When::Wide, false, |r| or_none(r.reason.as_ref())),
    column("DECISION_ID", When::Denied, false, |r| {
        or_none(r.decision_id.as_ref())
    }),
];

fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

/// A column with what is in it.
struct Filled {
    column: &'static Column,
    cells: Vec<String>,
    width: usize,
}

/// Prints a header and a line for each record; nothing when there is none. Names and claims are
/// cut so that lines fit `limit` characters, if there is one, and not all columns are asked for.
pub(crate) fn print(
    records: &[AccessRecord],
    wide: bool,
    limit: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let filled = COLUMNS.iter().map(|column| fill(column, records));
    let mut shown: Vec<Filled> = filled
        .filter(|filled| match filled.column.when {
            When::Always => true,
            When::Denied => wide || filled.cells.iter().any(|cell| !cell.is_empty()),
            When::Wide => wide,
        })
        .collect();
    if let Some(limit) = limit
        && !wide
    {
        cut(&mut shown, limit);
    }
    let headers = shown
        .iter()
        .map(|column| fit(column.column.header, column.width));
    line(headers.collect(), out)?;
    for row in 0..records.len() {
        let cells = shown
            .iter()
            .map(|column| fit(&column.cells[row], column.width));
        line(cells.collect(), out)?;
    }
    Ok(())
}

fn line(cells: Vec<String>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", cells.join(GAP).trim_end())
}

fn fill(column: &'static Column, records: &[AccessRecord]) -> Filled {
    let cells: Vec<String> = records.iter().map(column.cell).collect();
    let widths = cells.iter().map(|cell| cell.chars().count());
    let width = widths.max().unwrap_or(0).max(column.header.len());
    Filled {
        column,
        cells,
        width,
    }
}

/// A time as Kubernetes prints it.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Takes from the widest where all that are always shown do not fit together.
fn cut(shown: &mut [Filled], limit: usize) {
    let mut shown: Vec<&mut Filled> = shown
        .iter_mut()
        .filter(|filled| filled.column.when == When::Always)
        .collect();
    let gaps = GAP.len() * shown.len().saturating_sub(1);
    while shown.iter().map(|filled| filled.width).sum::<usize>() + gaps > limit {
        let wide = shown.iter_mut().filter(|filled| filled.column.may_be_cut);
        match wide.max_by_key(|filled| filled.width) {
            Some(widest) if widest.width > NARROWEST => widest.width -= 1,
            _ => break,
        }
    }
}

fn fit(cell: &str, width: usize) -> String {
    // What a terminal would obey instead of showing it; none of ours has it.
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut shown: String = cell.chars().map(plain).collect();
    if shown.chars().count() > width {
        shown = shown.chars().take(width.saturating_sub(1)).collect();
        shown.push('…');
    }
    format!("{shown:<width$}")
}

#[cfg(test)]
mod tests {
    use bursar_wire::people::AccessRecord;

    use super::print;

    const WIDTH: usize = 120;

    fn record(name: &str) -> AccessRecord {
        AccessRecord {
            recorded_time: "2026-11-21T10:00:00.123456Z".parse().unwrap(),
            count: 12,
            outcome: "Unaccounted".to_owned(),
            user: Some(name.to_owned()),
            token: Some(name.to_owned()),
            version: Some(3),
            service_account_name: name.to_owned(),
            pod: Some(name.to_owned()),
            app_name: name.to_owned(),
            purpose: name.to_owned(),
            decision_id: None,
            code: None,
            reason: None,
            ..crate::why::tests::refused()
        }
    }

    fn shown(records: &[AccessRecord], wide: bool, limit: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        print(records, wide, limit, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn lines(records: &[AccessRecord]) -> Vec<String> {
        shown(records, false, Some(WIDTH))
    }

    #[test]
    fn short_names_are_whole_and_claims_are_marked() {
        let lines = lines(&[record("ana")]);
        assert!(lines[0].contains("APP*") && lines[0].ends_with("PURPOSE*"));
        assert!(lines[1].starts_with("2026-11-21T10:00:00Z  12     Unaccounted  ana "));
    }

    #[test]
    fn long_names_are_cut_in_a_terminal_alone() {
        let long = "a".repeat(253);
        let records = [record(&long), record("ana")];
        for line in lines(&records) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for lines in [
            shown(&records, false, None),
            shown(&records, true, Some(WIDTH)),
        ] {
            assert_eq!(lines[1].matches(&long).count(), 6, "{}", lines[1]);
        }
    }

    #[test]
    fn a_refusal_is_shown_with_its_code_and_what_why_is_asked_by() {
        let id = "c8ea40b172bfff258fb905a002b32236";
        let refused = AccessRecord {
            decision_id: Some(id.to_owned()),
            purpose: "p".repeat(253),
            ..crate::why::tests::refused()
        };
        let records = [record("ana"), refused];
        let lines = lines(&records);
        assert!(
            lines[0].ends_with("  CODE       DECISION_ID"),
            "{}",
            lines[0]
        );
        assert!(
            lines[2].ends_with(&format!("  Forbidden  {id}")),
            "{}",
            lines[2]
        );
        let wide = shown(&records, true, None);
        assert!(wide[2].ends_with(&format!("  Forbidden  WorkloadNotListed  {id}")));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let lines = lines(&[record("a\u{1b}[2Jb\nc")]);
        assert_eq!(lines.len(), 2);
        assert!(!lines[1].contains('\u{1b}'));
    }
}
