//! A walk along chains of records, one record after another.

use bursar_seal::AuditKey;

use super::bad_place::{BadPlace, Wrong};
use super::chain::NO_MAC;
use super::record::Record;
use crate::db_time::DbTime;

/// A record with what is known of its chain.
#[derive(sqlx::FromRow)]
pub(crate) struct Step {
    #[sqlx(flatten)]
    record: Record,
    head_no: Option<i64>,
    head_time: Option<DbTime>,
    head_mac: Option<Vec<u8>>,
    boundary_no: Option<i64>,
    boundary_mac: Option<Vec<u8>>,
}

/// Where the walk is. Records come in the order of chains and numbers.
pub(crate) struct Walk<'a> {
    key: &'a AuditKey,
    pub(crate) records: u64,
    pub(crate) chains: u64,
    last: Option<Step>,
}

impl<'a> Walk<'a> {
    pub(crate) const fn new(key: &'a AuditKey) -> Self {
        Self {
            key,
            records: 0,
            chains: 0,
            last: None,
        }
    }

    /// Goes on to the next record, unless something is wrong.
    pub(crate) fn step(&mut self, step: Step) -> Option<BadPlace> {
        let goes_on = self
            .last
            .as_ref()
            .filter(|last| last.record.chain_id == step.record.chain_id);
        let earliest = goes_on.map(|last| last.record.recorded_time);
        let (before, previous) = match goes_on {
            Some(last) => (last.record.record_no, last.record.mac.clone()),
            None => {
                if let Some(bad) = self.end() {
                    return Some(bad);
                }
                self.chains += 1;
                step.beginning()
            }
        };
        let record = &step.record;
        let expected = before.saturating_add(1);
        if record.record_no > expected {
            let next = record.record_no;
            let mut bad = step.bad(Wrong::RecordRemoved { next });
            bad.record_no = Some(expected);
            return Some(bad);
        }
        if record.record_no < expected {
            return Some(step.bad(Wrong::RecordOutOfOrder));
        }
        let fits = <[u8; 32]>::try_from(previous).is_ok_and(|previous| {
            self.key
                .verify(&previous, &record.content(), &record.mac)
                .is_ok()
        });
        if !fits {
            return Some(step.bad(Wrong::RecordChanged));
        }
        if earliest.is_some_and(|earliest| record.recorded_time < earliest) {
            return Some(step.bad(Wrong::RecordEarlier));
        }
        self.records += 1;
        self.last = Some(step);
        None
    }

    /// Whether the chain that was walked last ends where its head says.
    pub(crate) fn end(&mut self) -> Option<BadPlace> {
        let last = self.last.take()?;
        let record = &last.record;
        let Some(head) = last.head_no else {
            return Some(last.bad(Wrong::HeadRemoved));
        };
        if head > record.record_no {
            let mut bad = last.bad(Wrong::RecordsCut { head });
            bad.record_no = Some(record.record_no.saturating_add(1));
            bad.time = last.head_time;
            return Some(bad);
        }
        let is_last = head == record.record_no
            && last.head_time == Some(record.recorded_time)
            && last.head_mac.as_ref() == Some(&record.mac);
        (!is_last).then(|| last.bad(Wrong::HeadChanged))
    }
}

impl Step {
    /// What the first record of a chain follows: nothing, or what was dropped.
    fn beginning(&self) -> (i64, Vec<u8>) {
        match (self.boundary_no, &self.boundary_mac) {
            (Some(number), Some(mac)) if self.record.record_no != 1 => (number, mac.clone()),
            _ => (0, NO_MAC.to_vec()),
        }
    }

    fn bad(&self, wrong: Wrong) -> BadPlace {
        BadPlace {
            chain_id: Some(self.record.chain_id),
            record_no: Some(self.record.record_no),
            checkpoint_no: None,
            time: Some(self.record.recorded_time),
            wrong,
        }
    }
}
