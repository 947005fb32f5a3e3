//! What the vault's answer to a request changes.

use bursar_seal::TenantId;
use bursar_wire::v1alpha1::Granted;
use bursar_wire::v1alpha1::grant_response::Answer;
use zeroize::Zeroize as _;

use super::entry::Entry;
use super::{Holdings, Outcome};
use crate::allowance::denials::Denial;
use crate::allowance::grant::Grant;
use crate::allowance::held::{Allowance, Asked};
use crate::allowance::key::EntryKey;
use crate::allowance::queue::InDoubt;
use crate::clock::BootTime;

impl Holdings {
    /// Takes the vault's answer to the request that is in doubt.
    pub(crate) fn settle(
        &mut self,
        answer: Option<Answer>,
        tenant: TenantId,
        jitter: u8,
        now: BootTime,
    ) {
        let Some(asked) = self.queue.answered() else {
            return;
        };
        let outcome = match answer {
            Some(Answer::Granted(granted)) => self.granted(&asked, granted, tenant, jitter, now),
            Some(Answer::Denied(denied)) => match Denial::from(denied) {
                Denial::QuotaExhausted { .. } if asked.request.waiting == 0 => {
                    self.no_more(&asked.key)
                }
                denial => self.deny(&asked, denial, now),
            },
            Some(Answer::AskAgain(again)) => {
                if let Some(id) = again.close_allowance_id {
                    self.ledger.end_unused(id);
                }
                Outcome::LookAgain
            }
            None => {
                tracing::error!("the vault gave an answer that is neither a grant nor a denial");
                self.deny(&asked, Denial::Unusable, now)
            }
        };
        self.tell(&asked.key, outcome);
        if self.holds_superseded(&asked.key) {
            self.renew(&asked.key, now);
        }
        self.progress.notify_one();
        if self.closing {
            // It came too late to be served from: hand it back at once.
            self.report_wake.notify_one();
        }
    }

    /// The call for the request that is in doubt failed. Those who wait for it are
    /// told, and nobody else. What is held is served on: nothing was said about it.
    pub(crate) fn fail(&mut self, denial: Denial, now: BootTime) {
        self.queue.failed();
        if let Some(in_doubt) = self.queue.in_doubt() {
            let (key, asked) = (in_doubt.key.clone(), in_doubt.denials);
            self.denials
                .remember(key.clone(), denial.clone(), asked, now);
            self.tell(&key, Outcome::Refused(denial));
        }
    }

    /// Serves from a new allowance from now on, and no longer from the one it
    /// takes the place of.
    fn granted(
        &mut self,
        asked: &InDoubt,
        mut granted: Granted,
        tenant: TenantId,
        jitter: u8,
        now: BootTime,
    ) -> Outcome {
        let id = granted.allowance_id.clone();
        if self.closing || asked.recalled.has(&id) {
            granted.data_key.zeroize();
            self.ledger.end_unused(id);
            return Outcome::LookAgain;
        }
        match Grant::new(granted, tenant, asked.key.user_id(), &mut self.scratch) {
            Ok(grant) => {
                let when = Asked {
                    sent: asked.sent,
                    answered: now,
                    jitter,
                };
                let mut allowance = Allowance::new(grant, &when);
                allowance.superseded = asked.superseded.has(&id);
                let entry = self.entries.entry(asked.key.clone()).or_default();
                entry.take(allowance, &mut self.ledger);
                Outcome::LookAgain
            }
            Err(error) => {
                tracing::error!(%error, "an allowance cannot be used");
                self.ledger.end_unused(id);
                self.deny(asked, Denial::Unusable, now)
            }
        }
    }

    /// A quota has nothing left to renew with, and nobody was asked to give some
    /// back: what is held is good to its end. Who waits by now asks again.
    fn no_more(&mut self, key: &EntryKey) -> Outcome {
        if let Some(entry) = self.entries.get_mut(key)
            && let Some(allowance) = entry.serving_mut()
        {
            allowance.is_last = true;
        }
        Outcome::LookAgain
    }

    fn holds_superseded(&self, key: &EntryKey) -> bool {
        let allowance = self.entries.get(key).and_then(Entry::serving);
        allowance.is_some_and(|allowance| allowance.superseded && !allowance.is_last)
    }

    /// The vault says no, so what is still held under this key is not served
    /// any more either.
    fn deny(&mut self, asked: &InDoubt, denial: Denial, now: BootTime) -> Outcome {
        if let Some(entry) = self.entries.get_mut(&asked.key) {
            entry.end_all(&mut self.ledger);
        }
        self.denials
            .remember(asked.key.clone(), denial.clone(), asked.denials, now);
        Outcome::Refused(denial)
    }

    /// Answers those who wait for `key`.
    fn tell(&mut self, key: &EntryKey, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(key) {
            if let Some(ask) = entry.ask.take() {
                ask.send_replace(Some(outcome));
            }
            if entry.is_empty() {
                self.entries.remove(key);
            }
        }
    }
}
