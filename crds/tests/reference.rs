//! docs/reference.md knows every reason a condition can have.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bursar_crds::reasons::{ReadyReason, Reason, UsableReason};

/// The first two cells of each row of the table under a heading: reason and status.
fn rows(heading: &str) -> Vec<(String, String)> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
    let page = std::fs::read_to_string(page).unwrap();
    let heading = format!("\n{heading}\n");
    let (_, section) = page.split_once(&heading).unwrap();
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let reason = cells.next().unwrap().trim_matches('`');
        (reason.to_owned(), cells.next().unwrap().to_owned())
    })
    .collect()
}

fn table<R: Reason>(all: &[R]) -> Vec<(String, String)> {
    let row = |reason: &R| (reason.to_string(), reason.status().to_string());
    all.iter().map(row).collect()
}

fn sorted(mut rows: Vec<(String, String)>) -> Vec<(String, String)> {
    rows.sort();
    rows
}

#[test]
fn the_reference_has_every_reason_with_its_status_and_no_other() {
    for (heading, reasons) in [
        ("### Reasons of Ready", table(ReadyReason::ALL)),
        ("### Reasons of Usable", table(UsableReason::ALL)),
    ] {
        assert_eq!(sorted(rows(heading)), sorted(reasons), "{heading}");
    }
}
