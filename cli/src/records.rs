//! The columns of records.

use bursar_wire::people::AccessRecord;

use crate::table::{Column, When, column, or_none, seconds};

pub(crate) const COLUMNS: &[Column<AccessRecord>] = &[
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
    column("CODE", When::Filled, false, |r| or_none(r.code.as_ref())),
    column("REASON", When::Wide, false, |r| or_none(r.reason.as_ref())),
    // What `why` is asked by.
    column("DECISION_ID", When::Filled, false, |r| {
        or_none(r.decision_id.as_ref())
    }),
];

#[cfg(test)]
mod tests {
    use bursar_wire::people::AccessRecord;

    use super::COLUMNS;
    use crate::table::print;

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
        print(COLUMNS, records, wide, limit, &mut out).unwrap();
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
