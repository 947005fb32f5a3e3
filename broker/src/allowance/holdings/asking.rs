//! What the vault is asked for, and when.

use bursar_wire::v1alpha1::GrantRequest;
use tokio::sync::watch;

use super::{Holdings, Outcome, Reach};
use crate::allowance::held::Allowance;
use crate::allowance::key::EntryKey;
use crate::allowance::queue::Ask;
use crate::clock::BootTime;

/// The fewest accesses to ask for: 256 connections may want one at once after a
/// pause and cost one request together, renewal included.
const LEAST_WANTED: u64 = 512;
/// The most; the vault grants no more.
const MOST_WANTED: u64 = 5_000;

impl Holdings {
    /// Joins those who wait for an answer about `key`; the first of them asks.
    /// None when the vault cannot be asked.
    pub(super) fn ask(&mut self, key: &EntryKey) -> Option<watch::Receiver<Option<Outcome>>> {
        if self.reach == Reach::Away || self.closing {
            return None;
        }
        if let Some(ask) = self.entries.get(key).and_then(|entry| entry.ask.as_ref()) {
            return Some(ask.subscribe());
        }
        if !self.queue.push(key.clone()) {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        self.entries.entry(key.clone()).or_default().ask = Some(sender);
        Some(receiver)
    }

    /// Asks for the successor of an allowance that still serves, unless it is
    /// asked for already or the vault has just failed to give it.
    pub(super) fn renew(&mut self, key: &EntryKey, now: BootTime) {
        if self.reach != Reach::Attached || self.closing || self.denials.get(key, now).is_some() {
            return;
        }
        if let Some(entry) = self.entries.get_mut(key)
            && entry.ask.is_none()
        {
            entry.ask = Some(watch::channel(None).0);
            self.queue.push_renewal(key.clone());
        }
    }

    /// The request for an allowance to send to the vault now: the one that must
    /// be repeated, or else the next that is of use to anybody.
    pub(crate) fn next_grant(&mut self, now: BootTime) -> Option<GrantRequest> {
        while let Some(key) = self.queue.pop() {
            let Some(entry) = self.entries.get(&key) else {
                continue;
            };
            let Some(ask) = &entry.ask else {
                continue;
            };
            let (waiting, allowance) = (ask.receiver_count(), entry.serving());
            if waiting == 0 && allowance.is_none() {
                // They have all hung up.
                self.entries.remove(&key);
                continue;
            }
            let ask = Ask {
                want: want(allowance, waiting, now),
                waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            };
            self.queue.begin(key, ask, self.denials.generation(), now);
        }
        self.queue.unanswered()
    }
}

/// How many accesses to ask for: as many as will be made by the forecast, and twice
/// as many as wait, because half of them make it due again. What quotas count is
/// not asked for in advance of need.
fn want(previous: Option<&Allowance>, waiting: usize, now: BootTime) -> u32 {
    let forecast = previous.map_or(0, |allowance| allowance.forecast(now));
    let least = match previous {
        Some(allowance) if allowance.is_counted() => 1,
        _ => LEAST_WANTED,
    };
    let wanted = forecast.max(2 * waiting as u64).clamp(least, MOST_WANTED);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}
