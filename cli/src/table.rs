//! Records in columns, cut to fit a terminal.

use std::io::{self, Write};

use bursar_wire::people::AccessRecord;
use jiff::Timestamp;

/// The most characters of a line.
const WIDTH: usize = 120;
const GAP: &str = "  ";
/// A cut column still has so many characters.
const NARROWEST: usize = 8;

const HEADERS: [&str; 10] = [
    "TIME",
    "COUNT",
    "OUTCOME",
    "USER",
    "TOKEN",
    "VERSION",
    "SERVICE ACCOUNT",
    "POD",
    "APP*",
    "PURPOSE*",
];
/// The columns that may be cut: names and claims. Times, numbers and outcomes are whole.
const MAY_BE_CUT: [bool; 10] = [
    false, false, false, true, true, false, true, true, true, true,
];

type Line = [String; 10];

/// Prints a header and a line for each record; nothing when there is none.
pub(crate) fn print(records: &[AccessRecord], out: &mut dyn Write) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut lines = vec![HEADERS.map(str::to_owned)];
    lines.extend(records.iter().map(cells));
    let widths = widths(&lines);
    for line in &lines {
        let cells = line.iter().zip(widths);
        let cells: Vec<String> = cells.map(|(cell, width)| fit(cell, width)).collect();
        writeln!(out, "{}", cells.join(GAP).trim_end())?;
    }
    Ok(())
}

fn cells(record: &AccessRecord) -> Line {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        seconds(record.recorded_time),
        record.count.to_string(),
        record.outcome.clone(),
        or_none(&record.user),
        or_none(&record.token),
        record
            .version
            .map(|version| version.to_string())
            .unwrap_or_default(),
        record.service_account_name.clone(),
        or_none(&record.pod),
        // Of people this is who asked: no less a claim.
        record
            .person
            .clone()
            .unwrap_or_else(|| record.app_name.clone()),
        record.purpose.clone(),
    ]
}

/// A time as Kubernetes prints it.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What each column gets: what it needs, or less where all together do not fit.
fn widths(lines: &[Line]) -> [usize; 10] {
    let mut widths = [0; 10];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = GAP.len() * (widths.len() - 1);
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        let wide = (0..widths.len()).filter(|column| MAY_BE_CUT[*column]);
        match wide.max_by_key(|column| widths[*column]) {
            Some(widest) if widths[widest] > NARROWEST => widths[widest] -= 1,
            _ => break,
        }
    }
    widths
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

    use super::{WIDTH, print};

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
            ..crate::why::tests::refused()
        }
    }

    fn lines(records: &[AccessRecord]) -> Vec<String> {
        let mut out = Vec::new();
        print(records, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn short_names_are_whole_and_claims_are_marked() {
        let lines = lines(&[record("ana")]);
        assert!(lines[0].contains("APP*") && lines[0].contains("PURPOSE*"));
        assert!(lines[1].starts_with("2026-11-21T10:00:00Z  12     Unaccounted  ana "));
    }

    #[test]
    fn long_names_are_cut_and_no_line_is_longer_than_a_terminal() {
        for line in lines(&[record(&"a".repeat(253)), record("ana")]) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        let lines = lines(&[record("a\u{1b}[2Jb\nc")]);
        assert_eq!(lines.len(), 2);
        assert!(!lines[1].contains('\u{1b}'));
    }
}
