//! All that this broker holds, and the rules by which it comes and goes.

mod asking;
mod entry;
mod settle;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod model_vault;
#[cfg(test)]
mod rules_test;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod successor_test;
#[cfg(test)]
mod trouble_test;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use bursar_seal::PlainBuffer;
use bursar_wire::v1alpha1::{self, ReportRequest};
use hyper::body::Bytes;
use tokio::sync::{Notify, watch};

use entry::Entry;

use crate::allowance::denials::{Denial, Denials};
use crate::allowance::held::{Access, Allowance, Unserved};
use crate::allowance::key::EntryKey;
use crate::allowance::ledger::Ledger;
use crate::allowance::queue::GrantQueue;
use crate::clock::{BootTime, Clock};

/// A key whose use began again within this time is no news: an application that reads
/// now and then does not make its broker report more often than the vault asks for.
const LATELY: Duration = Duration::from_secs(30);

/// Everything held for the workloads of this pod.
#[derive(Default)]
pub(crate) struct Holdings {
    entries: HashMap<EntryKey, Entry>,
    /// Keys whose use began lately, and when; the sweep forgets them.
    lately: HashMap<EntryKey, BootTime>,
    denials: Denials,
    queue: GrantQueue,
    ledger: Ledger,
    reach: Reach,
    /// The broker is ending: what comes in now is handed back.
    closing: bool,
    lost_at_end: Option<u64>,
    scratch: PlainBuffer,
    report_wake: Rc<Notify>,
    report_soon: Rc<Notify>,
    /// Told whenever the vault has answered.
    progress: Rc<Notify>,
}

/// Whether the vault can be asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Reach {
    /// Not yet, or not at this moment: it is worth waiting.
    #[default]
    Connecting,
    /// Yes.
    Attached,
    /// The last attempt to reach it failed.
    Away,
}

/// What became of a question to the vault.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// There may be something to serve now: look again.
    LookAgain,
    /// Nothing was granted.
    Refused(Denial),
    /// The vault cannot be reached.
    VaultAway,
}

/// What became of one access.
pub(crate) enum Served {
    /// The answer's body.
    Body(Bytes),
    /// The vault said no, now or a moment ago.
    Refused(Denial),
    /// The vault has been asked; the outcome will be sent here.
    Asked(watch::Receiver<Option<Outcome>>),
    /// The vault cannot be asked.
    VaultAway,
}

impl Holdings {
    /// Serves one access if an allowance for it is held, and asks the vault for
    /// one if not, or if the one held should be renewed.
    pub(crate) fn serve(
        &mut self,
        key: &EntryKey,
        access: Access<'_>,
        clock: &dyn Clock,
    ) -> Served {
        if let Some(entry) = self.entries.get_mut(key) {
            match entry.serve(access, clock, &mut self.scratch, &mut self.ledger) {
                Ok(body) => {
                    let is_due = entry.is_due(access.boot);
                    if entry.begins() {
                        self.began(key, access.boot);
                    }
                    if is_due {
                        self.renew(key, access.boot);
                    }
                    return Served::Body(body);
                }
                Err(Unserved::PurposeNotAllowed) => return Served::Refused(Denial::Forbidden),
                Err(Unserved::Unusable) => return Served::Refused(Denial::Unusable),
                Err(Unserved::Exhausted) => {}
            }
        }
        if let Some(denial) = self.denials.get(key, access.boot) {
            return Served::Refused(denial.clone());
        }
        self.ask(key).map_or(Served::VaultAway, Served::Asked)
    }

    /// The use of a key begins. Whoever looks at who uses what should not have to wait
    /// for long.
    fn began(&mut self, key: &EntryKey, now: BootTime) {
        if self.lately.insert(key.clone(), now).is_none() {
            self.report_soon.notify_one();
        }
    }

    /// Stops serving from these allowances at once, and says so at once.
    pub(crate) fn recall(&mut self, ids: &[String]) -> usize {
        if let Some(in_doubt) = self.queue.in_doubt_mut() {
            in_doubt.recalled.extend(ids);
        }
        let ids: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let ended = self.end_where(|allowance| ids.contains(allowance.id()));
        self.report_wake.notify_one();
        ended
    }

    /// Asks for the newer versions of these; the old ones are served until they
    /// are here.
    pub(crate) fn supersede(&mut self, ids: &[String], now: BootTime) {
        if let Some(in_doubt) = self.queue.in_doubt_mut() {
            in_doubt.superseded.extend(ids);
        }
        let ids: HashSet<&str> = ids.iter().map(String::as_str).collect();
        for entry in self.entries.values_mut() {
            entry.supersede(&ids, now, &mut self.ledger);
        }
        self.renew_superseded(now);
    }

    fn renew_superseded(&mut self, now: BootTime) {
        let superseded = self.entries.iter().filter(|(_, entry)| {
            entry
                .serving()
                .is_some_and(|allowance| allowance.superseded)
        });
        let keys: Vec<EntryKey> = superseded.map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.renew(key, now);
        }
    }

    /// Entitlements have changed.
    pub(crate) fn forget_denials(&mut self) {
        self.denials.forget_all();
    }

    /// Ends what may not be served any more, so that no key outlives its lease, and
    /// what others could use. While the vault is out of reach nobody could: then this
    /// pod lives on what it has.
    pub(crate) fn sweep(&mut self, now: BootTime) {
        if self.reach == Reach::Attached {
            for entry in self.entries.values_mut() {
                if entry
                    .serving()
                    .is_some_and(|allowance| allowance.is_idle(now))
                {
                    entry.end_all(&mut self.ledger);
                }
            }
        }
        self.end_where(|allowance| allowance.is_over(now));
        self.lately.retain(|_, began| now.since(*began) < LATELY);
    }

    fn end_where(&mut self, ends: impl Fn(&Allowance) -> bool) -> usize {
        let mut count = 0;
        self.entries.retain(|_, entry| {
            count += entry.end_where(&ends, &mut self.ledger);
            !entry.is_empty()
        });
        count
    }

    /// A call was refused: told soon, so that whoever asks why need not wait for long.
    pub(crate) fn note_denial(&mut self, denial: v1alpha1::Denial) {
        self.ledger.note(denial);
        self.report_soon.notify_one();
    }

    /// The report to send now, if there is anything to say.
    pub(crate) fn next_batch(&mut self) -> Option<ReportRequest> {
        let open = self.entries.values_mut().flat_map(Entry::held_mut);
        self.ledger.next_batch(open)
    }

    /// The vault has recorded the batch `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        self.ledger.acknowledge(seq);
        self.progress.notify_one();
    }

    /// The vault can be asked from now on.
    pub(crate) fn attached(&mut self, now: BootTime) {
        self.reach = Reach::Attached;
        self.renew_superseded(now);
    }

    /// The vault can no longer be asked. When it is `away` nobody is kept
    /// waiting; otherwise the next attempt to reach it is near.
    pub(crate) fn detached(&mut self, away: bool) {
        self.reach = if away { Reach::Away } else { Reach::Connecting };
        if away {
            self.answer_all(&Outcome::VaultAway);
        }
    }

    fn answer_all(&mut self, outcome: &Outcome) {
        self.queue.clear();
        self.entries.retain(|_, entry| {
            if let Some(ask) = entry.ask.take() {
                ask.send_replace(Some(outcome.clone()));
            }
            !entry.is_empty()
        });
    }

    /// Whether a vault with these numbers has the same history as this broker.
    pub(crate) fn agrees_with(&self, report_seq: u64, request_no: u64) -> bool {
        self.ledger.agrees_with(report_seq) && self.queue.agrees_with(request_no)
    }

    /// A new incarnation begins: nothing that belongs to the one before may be
    /// served or reported. Returns how many accesses stay unreported; the vault
    /// records them as unaccounted for.
    pub(crate) fn start_over(&mut self) -> u64 {
        let unreported = self.unreported();
        if self.closing && !self.is_settled() {
            self.lost_at_end = Some(self.lost_at_end.unwrap_or_default() + unreported);
        }
        self.ledger.start_over();
        self.denials.forget_all();
        self.entries.retain(|_, entry| {
            entry.forget();
            !entry.is_empty()
        });
        self.queue.restart();
        self.progress.notify_one();
        unreported
    }

    /// The broker ends: nothing is served any more and all is handed back.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.end_where(|_| true);
        self.answer_all(&Outcome::VaultAway);
        self.report_wake.notify_one();
    }

    /// Whether the vault has been told everything but denials, and owes no answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.entries.is_empty() && self.ledger.is_settled() && self.queue.in_doubt().is_none()
    }

    /// Denials that the vault has not acknowledged.
    pub(crate) fn untold_denials(&self) -> usize {
        self.ledger.untold_denials()
    }

    /// When the incarnation was ended before the vault had been told all: how
    /// many accesses it was not told of.
    pub(crate) fn lost_at_end(&self) -> Option<u64> {
        self.lost_at_end
    }

    /// Accesses that the vault has not acknowledged.
    pub(crate) fn unreported(&self) -> u64 {
        let open = self.entries.values().flat_map(Entry::held);
        open.map(|allowance| allowance.notes().accesses())
            .sum::<u64>()
            + self.ledger.unreported()
    }

    /// Allowances held.
    pub(crate) fn allowances(&self) -> usize {
        self.entries.values().flat_map(Entry::held).count()
    }

    /// Told when there is an allowance to ask for.
    pub(crate) fn grant_wake(&self) -> Rc<Notify> {
        Rc::clone(&self.queue.wake)
    }

    /// Told when the vault has answered.
    pub(crate) fn progress(&self) -> Rc<Notify> {
        Rc::clone(&self.progress)
    }

    /// Told when a report should not wait for as long as the vault asks for.
    pub(crate) fn report_soon(&self) -> Rc<Notify> {
        Rc::clone(&self.report_soon)
    }

    /// Told when a report should not wait for its time.
    pub(crate) fn report_wake(&self) -> Rc<Notify> {
        Rc::clone(&self.report_wake)
    }
}
