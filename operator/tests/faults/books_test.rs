//! The check of the books finds what it is there to find.

use std::collections::BTreeMap;

use crate::books::{Fate, Outcome, Recorded, problems, purpose};
use crate::journal::{Ask, Journal, Outcome as Told};

const SECOND: i64 = 1_000;

fn ask() -> Ask {
    Ask {
        run: "run-1".to_owned(),
        token: "github".to_owned(),
        second: SECOND,
    }
}

/// So many were received and so many lost.
fn journal(received: usize, lost: usize) -> Journal {
    let mut journal = Journal::default();
    let value = || Told::Received {
        version: 1,
        value: "value".to_owned(),
    };
    (0..received).for_each(|_| journal.note(ask(), value(), SECOND));
    (0..lost).for_each(|_| journal.note(ask(), Told::Lost, SECOND));
    journal
}

fn recorded(outcome: Outcome, count: i64) -> Recorded {
    let is_served = outcome == Outcome::Served;
    let told = |text: String| if is_served { text } else { String::new() };
    Recorded {
        outcome,
        run: "run-1".to_owned(),
        app_name: told("run-1".to_owned()),
        purpose: told(purpose(SECOND)),
        token: "github".to_owned(),
        version: 1,
        count,
        expires: 1_000.5,
    }
}

fn found(journal: &Journal, records: &[Recorded], killed: bool) -> usize {
    let fate = Fate { killed, pauses: 0 };
    let fates = BTreeMap::from([("run-1".to_owned(), fate)]);
    problems(journal, records, &fates).len()
}

#[test]
fn books_that_agree_have_no_problem() {
    use Outcome::{Accounted, Served, Unaccounted};
    assert_eq!(found(&journal(5, 0), &[recorded(Served, 5)], false), 0);
    assert_eq!(found(&journal(5, 2), &[recorded(Served, 6)], false), 0);
    let (some, rest) = (recorded(Served, 3), recorded(Unaccounted, 7));
    assert_eq!(found(&journal(5, 0), &[some, rest], true), 0);
    let late = [Unaccounted, Accounted].map(|outcome| recorded(outcome, 7));
    let late = [late.to_vec(), vec![recorded(Served, 5)]].concat();
    assert_eq!(found(&journal(5, 0), &late, false), 0);
}

#[test]
fn an_access_that_is_not_on_record_is_found() {
    assert!(found(&journal(5, 3), &[recorded(Outcome::Served, 4)], false) > 0);
    assert!(found(&journal(5, 0), &[recorded(Outcome::Served, 4)], true) > 0);
}

#[test]
fn a_record_of_nothing_is_found() {
    for killed in [false, true] {
        assert!(found(&journal(5, 1), &[recorded(Outcome::Served, 7)], killed) > 0);
    }
}

#[test]
fn what_a_living_broker_leaves_unaccounted_for_is_found() {
    let records = [
        recorded(Outcome::Served, 5),
        recorded(Outcome::Unaccounted, 1),
    ];
    assert!(found(&journal(5, 0), &records, false) > 0);
    assert_eq!(found(&journal(5, 0), &records, true), 0);
}

#[test]
fn what_is_accounted_for_twice_is_found() {
    let records = [
        recorded(Outcome::Served, 5),
        recorded(Outcome::Accounted, 1),
    ];
    assert!(found(&journal(5, 0), &records, true) > 0);
}

#[test]
fn an_access_past_the_deadline_is_found() {
    let mut record = recorded(Outcome::Served, 5);
    record.expires = 999.9;
    assert!(found(&journal(5, 0), &[record], false) > 0);
}

#[test]
fn a_record_for_another_broker_and_two_values_of_one_version_are_found() {
    let mut record = recorded(Outcome::Served, 5);
    record.run = "run-2".to_owned();
    let fate = Fate::default();
    let fates = BTreeMap::from(["run-1", "run-2"].map(|run| (run.to_owned(), fate.clone())));
    assert!(!problems(&journal(5, 0), &[record], &fates).is_empty());
    let mut journal = journal(5, 0);
    let other = Told::Received {
        version: 1,
        value: "other".to_owned(),
    };
    journal.note(ask(), other, SECOND);
    assert!(found(&journal, &[recorded(Outcome::Served, 6)], false) > 0);
}
