//! What the vault must still be told: numbered batches, each frozen before it
//! is sent for the first time and sent unchanged until it is acknowledged.

use std::collections::VecDeque;

use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::{AccessRecord, Denial, ReportRequest};
use bursar_wire::{DENIALS_AN_HOUR, LARGEST_REPORT};

use super::held::Allowance;
use super::notes::Notes;

/// Records in one batch.
const MOST_RECORDS: usize = LARGEST_REPORT;
/// Allowances closed in one batch.
const MOST_CLOSED: usize = LARGEST_REPORT;
/// Denials kept while the vault is away for hours.
const MOST_DENIALS: usize = DENIALS_AN_HOUR as usize;

/// Allowances that have ended, and the batch that is under way.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Nothing is served from these any more; each is closed in the batch that
    /// has its last record, or a later one.
    ended: VecDeque<(String, Notes)>,
    denials: Vec<Denial>,
    frozen: Option<ReportRequest>,
    last_seq: u64,
}

impl Ledger {
    /// An allowance has ended.
    pub(crate) fn end(&mut self, allowance: Allowance) {
        self.ended.push_back(allowance.end());
    }

    /// An allowance was granted and will never be served from.
    pub(crate) fn end_unused(&mut self, allowance_id: String) {
        self.ended.push_back((allowance_id, Notes::default()));
    }

    /// A call was refused; beyond a bound that is not kept.
    pub(crate) fn note(&mut self, denial: Denial) {
        if self.denials.len() < MOST_DENIALS {
            self.denials.push(denial);
        }
    }

    /// An empty ledger for another incarnation, but for the denials that the vault
    /// cannot have been told of.
    pub(crate) fn start_over(&mut self) {
        let denials = std::mem::take(&mut self.denials);
        *self = Self {
            denials,
            ..Self::default()
        };
    }

    /// The batch to send now: the one that is not acknowledged yet, or else a
    /// new one of what ended and what was served from `open`. None when there
    /// is nothing to say.
    pub(crate) fn next_batch<'a>(
        &mut self,
        open: impl Iterator<Item = &'a mut Allowance>,
    ) -> Option<ReportRequest> {
        if self.frozen.is_none() {
            self.frozen = self.freeze(open);
        }
        self.frozen.clone()
    }

    fn freeze<'a>(
        &mut self,
        open: impl Iterator<Item = &'a mut Allowance>,
    ) -> Option<ReportRequest> {
        let mut records: Vec<AccessRecord> = Vec::new();
        let mut closed_allowance_ids = Vec::new();
        while closed_allowance_ids.len() < MOST_CLOSED
            && let Some((id, mut notes)) = self.ended.pop_front()
        {
            records.extend(notes.take(&id, MOST_RECORDS - records.len()));
            if !notes.is_empty() {
                self.ended.push_front((id, notes));
                break;
            }
            closed_allowance_ids.push(id);
        }
        for allowance in open {
            let (id, notes) = allowance.notes_mut();
            records.extend(notes.take(id, MOST_RECORDS - records.len()));
        }
        let denials = std::mem::take(&mut self.denials);
        if records.is_empty() && closed_allowance_ids.is_empty() && denials.is_empty() {
            return None;
        }
        Some(ReportRequest {
            seq: self.last_seq + 1,
            digest: report_digest(&records, &closed_allowance_ids, &denials).to_vec(),
            records,
            closed_allowance_ids,
            denials,
        })
    }

    /// The vault has recorded the batch `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if self.frozen.as_ref().is_some_and(|batch| batch.seq == seq) {
            self.frozen = None;
            self.last_seq = seq;
        }
    }

    /// Whether a vault that has recorded `seq` last can have got there with this
    /// ledger: it has the last acknowledged batch, or the one under way too.
    pub(crate) fn agrees_with(&self, seq: u64) -> bool {
        seq == self.last_seq || self.frozen.as_ref().is_some_and(|batch| batch.seq == seq)
    }

    /// Whether the vault knows all that was served and closed (beside what is
    /// noted in open allowances).
    pub(crate) fn is_settled(&self) -> bool {
        let owes = |batch: &ReportRequest| {
            !batch.records.is_empty() || !batch.closed_allowance_ids.is_empty()
        };
        self.ended.is_empty() && !self.frozen.as_ref().is_some_and(owes)
    }

    /// Denials that the vault has not acknowledged.
    pub(crate) fn untold_denials(&self) -> usize {
        let frozen = self.frozen.as_ref().map(|batch| batch.denials.len());
        self.denials.len() + frozen.unwrap_or_default()
    }

    /// Accesses that the vault has not acknowledged (beside those noted in open
    /// allowances).
    pub(crate) fn unreported(&self) -> u64 {
        let frozen = self.frozen.iter().flat_map(|batch| &batch.records);
        self.ended
            .iter()
            .map(|(_, notes)| notes.accesses())
            .sum::<u64>()
            + frozen.map(|record| u64::from(record.count)).sum::<u64>()
    }
}

/// Whether a batch had no room for all there was to say.
pub(crate) fn is_full(batch: &ReportRequest) -> bool {
    batch.records.len() >= MOST_RECORDS || batch.closed_allowance_ids.len() >= MOST_CLOSED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;

    fn noted(ledger: &mut Ledger, id: &str, apps: usize) {
        let mut notes = Notes::default();
        for n in 0..apps {
            notes.add(&format!("app-{n}"), "sync", UnixMillis(1));
        }
        ledger.ended.push_back((id.to_owned(), notes));
    }

    fn denial(n: usize) -> Denial {
        Denial {
            decision_id: format!("{n:032x}"),
            code: "Forbidden".into(),
            ..Denial::default()
        }
    }

    fn batch(ledger: &mut Ledger) -> Option<ReportRequest> {
        ledger.next_batch(std::iter::empty())
    }

    #[test]
    fn a_batch_is_repeated_unchanged_until_it_is_acknowledged() {
        let mut ledger = Ledger::default();
        assert_eq!(batch(&mut ledger), None);
        noted(&mut ledger, "a1", 3);
        let first = batch(&mut ledger).unwrap();
        noted(&mut ledger, "a2", 1);
        assert_eq!(batch(&mut ledger).as_ref(), Some(&first));
        ledger.acknowledge(first.seq);
        let second = batch(&mut ledger).unwrap();
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!(second.closed_allowance_ids, ["a2"]);
        ledger.acknowledge(second.seq);
        assert_eq!(batch(&mut ledger), None);
        assert!(ledger.is_settled());
    }

    #[test]
    fn an_old_acknowledgement_changes_nothing() {
        let mut ledger = Ledger::default();
        noted(&mut ledger, "a1", 1);
        let first = batch(&mut ledger).unwrap();
        ledger.acknowledge(first.seq - 1);
        ledger.acknowledge(first.seq + 1);
        assert_eq!(batch(&mut ledger), Some(first));
    }

    #[test]
    fn the_digest_is_that_of_the_batch() {
        let mut ledger = Ledger::default();
        noted(&mut ledger, "a1", 2);
        ledger.note(denial(1));
        let batch = batch(&mut ledger).unwrap();
        let expected = report_digest(&batch.records, &batch.closed_allowance_ids, &batch.denials);
        assert_eq!(batch.digest, expected);
    }

    #[test]
    fn a_large_backlog_is_split_and_closed_only_with_its_last_record() {
        let mut ledger = Ledger::default();
        noted(&mut ledger, "a1", MOST_RECORDS + 10);
        noted(&mut ledger, "a2", 5);
        assert_eq!(ledger.unreported(), MOST_RECORDS as u64 + 15);
        let first = batch(&mut ledger).unwrap();
        assert_eq!(
            (first.records.len(), first.closed_allowance_ids.len()),
            (MOST_RECORDS, 0)
        );
        assert!(is_full(&first));
        assert_eq!(ledger.unreported(), MOST_RECORDS as u64 + 15);
        ledger.acknowledge(first.seq);
        let second = batch(&mut ledger).unwrap();
        assert_eq!(second.records.len(), 15);
        assert!(!is_full(&second));
        assert_eq!(second.closed_allowance_ids, ["a1", "a2"]);
        ledger.acknowledge(second.seq);
        assert!(ledger.is_settled());
    }

    #[test]
    fn so_are_many_closes() {
        let mut ledger = Ledger::default();
        for n in 0..=MOST_CLOSED {
            ledger.end_unused(n.to_string());
        }
        let first = batch(&mut ledger).unwrap();
        assert!(is_full(&first) && first.closed_allowance_ids.len() == MOST_CLOSED);
        ledger.acknowledge(first.seq);
        assert_eq!(
            batch(&mut ledger).unwrap().closed_allowance_ids,
            [MOST_CLOSED.to_string()]
        );
    }

    #[test]
    fn denials_alone_make_a_batch_which_is_repeated_unchanged() {
        let mut ledger = Ledger::default();
        ledger.note(denial(1));
        let first = batch(&mut ledger).unwrap();
        assert_eq!(first.denials, [denial(1)]);
        ledger.note(denial(2));
        assert_eq!(batch(&mut ledger).as_ref(), Some(&first));
        assert_eq!((ledger.is_settled(), ledger.untold_denials()), (true, 2));
        ledger.acknowledge(first.seq);
        let second = batch(&mut ledger).unwrap();
        assert_eq!((second.seq, second.denials), (2, vec![denial(2)]));
        ledger.acknowledge(2);
        assert_eq!(ledger.untold_denials(), 0);
        assert_eq!(batch(&mut ledger), None);
    }

    #[test]
    fn denials_that_wait_are_bounded_and_outlive_an_incarnation_unless_they_were_sent() {
        let mut ledger = Ledger::default();
        ledger.note(denial(0));
        assert!(batch(&mut ledger).is_some());
        for n in 1..=2 * MOST_DENIALS {
            ledger.note(denial(n));
        }
        assert_eq!(ledger.untold_denials(), MOST_DENIALS + 1);
        ledger.start_over();
        let batch = batch(&mut ledger).unwrap();
        assert_eq!((batch.seq, batch.denials.len()), (1, MOST_DENIALS));
        assert_eq!(batch.denials.first(), Some(&denial(1)));
    }

    #[test]
    fn an_allowance_that_was_never_used_is_closed_without_a_record() {
        let mut ledger = Ledger::default();
        ledger.end_unused("a1".to_owned());
        let batch = batch(&mut ledger).unwrap();
        assert!(batch.records.is_empty());
        assert_eq!(batch.closed_allowance_ids, ["a1"]);
    }

    #[test]
    fn a_vault_that_lost_or_gained_a_batch_does_not_agree() {
        let mut ledger = Ledger::default();
        assert!(ledger.agrees_with(0) && !ledger.agrees_with(1));
        noted(&mut ledger, "a1", 1);
        let first = batch(&mut ledger).unwrap();
        assert!(ledger.agrees_with(0) && ledger.agrees_with(1) && !ledger.agrees_with(2));
        ledger.acknowledge(first.seq);
        assert!(ledger.agrees_with(1) && !ledger.agrees_with(0));
    }
}
