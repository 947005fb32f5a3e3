//! What was served from an allowance and is not reported yet.

use std::collections::HashMap;

use bursar_wire::v1alpha1::AccessRecord;

use crate::clock::UnixMillis;

/// Accesses since the last report, one note for each pair of claims.
///
/// There are never more notes than accesses, so an allowance's units bound
/// them, whatever names a workload invents.
#[derive(Default)]
pub(crate) struct Notes {
    /// The note added to last: most workloads always claim the same.
    last: Option<(Claims, Note)>,
    others: HashMap<Claims, Note>,
}

/// What a workload claims.
#[derive(Eq, Hash, PartialEq)]
struct Claims {
    app_name: Box<str>,
    purpose: Box<str>,
}

struct Note {
    count: u32,
    first: UnixMillis,
    last: UnixMillis,
}

impl Notes {
    /// Notes one access.
    pub(crate) fn add(&mut self, app_name: &str, purpose: &str, now: UnixMillis) {
        if let Some((claims, note)) = &mut self.last
            && *claims.app_name == *app_name
            && *claims.purpose == *purpose
        {
            note.add(now);
            return;
        }
        let claims = Claims {
            app_name: app_name.into(),
            purpose: purpose.into(),
        };
        let mut note = self.others.remove(&claims).unwrap_or(Note {
            count: 0,
            first: now,
            last: now,
        });
        note.add(now);
        if let Some((claims, note)) = self.last.replace((claims, note)) {
            self.others.insert(claims, note);
        }
    }

    /// Accesses noted.
    pub(crate) fn accesses(&self) -> u64 {
        let last = self.last.iter().map(|(_, note)| note);
        self.others
            .values()
            .chain(last)
            .map(|note| u64::from(note.count))
            .sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last.is_none() && self.others.is_empty()
    }

    /// Takes out up to `most` notes as the records of `allowance_id`.
    pub(crate) fn take(&mut self, allowance_id: &str, most: usize) -> Vec<AccessRecord> {
        if let Some((claims, note)) = self.last.take() {
            self.others.insert(claims, note);
        }
        let mut taken = 0;
        let notes = self.others.extract_if(|_, _| {
            taken += 1;
            taken <= most
        });
        notes
            .map(|(claims, note)| record(allowance_id, claims, note))
            .collect()
    }
}

impl Note {
    fn add(&mut self, now: UnixMillis) {
        self.count += 1;
        // The clock may have been set back in between.
        self.first = self.first.min(now);
        self.last = self.last.max(now);
    }
}

fn record(allowance_id: &str, claims: Claims, note: Note) -> AccessRecord {
    AccessRecord {
        allowance_id: allowance_id.to_owned(),
        app_name: claims.app_name.into(),
        purpose: claims.purpose.into(),
        count: note.count,
        first_time_ms: note.first.0,
        last_time_ms: note.last.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_with_the_same_claims_become_one_record() {
        let mut notes = Notes::default();
        notes.add("app", "sync", UnixMillis(10));
        notes.add("app", "sync", UnixMillis(30));
        notes.add("app", "sync", UnixMillis(20));
        assert_eq!(notes.accesses(), 3);
        let records = notes.take("a1", 100);
        assert_eq!(
            records,
            [AccessRecord {
                allowance_id: "a1".into(),
                app_name: "app".into(),
                purpose: "sync".into(),
                count: 3,
                first_time_ms: 10,
                last_time_ms: 30,
            }]
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn claims_that_read_alike_when_joined_stay_apart() {
        let mut notes = Notes::default();
        notes.add("a b", "c", UnixMillis(1));
        notes.add("a", "b c", UnixMillis(1));
        assert_eq!(notes.take("a1", 100).len(), 2);
    }

    #[test]
    fn claims_that_take_turns_keep_their_counts() {
        let mut notes = Notes::default();
        for _ in 0..3 {
            for app_name in ["a", "b", "c"] {
                notes.add(app_name, "sync", UnixMillis(1));
            }
        }
        assert_eq!(notes.accesses(), 9);
        let records = notes.take("a1", 100);
        assert_eq!(
            records
                .iter()
                .map(|record| record.count)
                .collect::<Vec<_>>(),
            [3, 3, 3]
        );
        assert!(notes.is_empty());
    }

    #[test]
    fn notes_can_be_taken_in_parts_and_none_is_lost_or_repeated() {
        let mut notes = Notes::default();
        for n in 0..25 {
            notes.add(&format!("app-{n}"), "sync", UnixMillis(1));
        }
        let mut seen: Vec<String> = Vec::new();
        for expected in [10, 10, 5, 0] {
            let part = notes.take("a1", 10);
            assert_eq!(part.len(), expected);
            seen.extend(part.into_iter().map(|record| record.app_name));
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 25);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_turn_a_record_around() {
        let mut notes = Notes::default();
        notes.add("app", "sync", UnixMillis(1_000));
        notes.add("app", "sync", UnixMillis(10));
        let record = notes.take("a1", 1).remove(0);
        assert_eq!((record.first_time_ms, record.last_time_ms), (10, 1_000));
    }
}
