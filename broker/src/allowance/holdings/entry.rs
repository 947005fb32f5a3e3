//! What is held, or asked for, under one key.

use std::collections::HashSet;

use bursar_seal::PlainBuffer;
use hyper::body::Bytes;
use tokio::sync::watch;

use super::Outcome;
use crate::allowance::held::{Access, Allowance, Unserved};
use crate::allowance::ledger::Ledger;
use crate::clock::{BootTime, Clock};

/// What is held, or asked for, under one key.
#[derive(Default)]
pub(super) struct Entry {
    serving: Option<Allowance>,
    /// Served from once the first is used up; never there without it. What quotas
    /// count is used to its end: others would wait for what went back, and each grant
    /// would be good for only half of it.
    next: Option<Allowance>,
    /// Those who wait for the vault's answer listen here.
    pub(super) ask: Option<watch::Sender<Option<Outcome>>>,
    began: bool,
}

impl Entry {
    /// Serves one access from what is held.
    pub(super) fn serve(
        &mut self,
        access: Access<'_>,
        clock: &dyn Clock,
        scratch: &mut PlainBuffer,
        ledger: &mut Ledger,
    ) -> Result<Bytes, Unserved> {
        while let Some(allowance) = &mut self.serving {
            let served = allowance.serve(access, clock, scratch);
            if served != Err(Unserved::Exhausted) || self.next.is_none() {
                return served;
            }
            self.go_on(access.boot, ledger);
        }
        Err(Unserved::Exhausted)
    }

    /// Whether a successor should be asked for now.
    pub(super) fn is_due(&self, now: BootTime) -> bool {
        let is_due = |allowance: &Allowance| allowance.is_due(now);
        self.ask.is_none() && self.next.is_none() && self.serving.as_ref().is_some_and(is_due)
    }

    /// Whether it was served from for the first time.
    pub(super) fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.began, true)
    }

    /// What is served from.
    pub(super) fn serving(&self) -> Option<&Allowance> {
        self.serving.as_ref()
    }

    pub(super) fn serving_mut(&mut self) -> Option<&mut Allowance> {
        self.serving.as_mut()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Allowance> {
        self.serving.iter().chain(&self.next)
    }

    pub(super) fn held_mut(&mut self) -> impl Iterator<Item = &mut Allowance> {
        self.serving.iter_mut().chain(&mut self.next)
    }

    /// Takes what was granted: to be served from at once, unless the one before is
    /// counted and as good.
    pub(super) fn take(&mut self, granted: Allowance, ledger: &mut Ledger) {
        let waits = self
            .serving
            .as_ref()
            .is_some_and(|serving| serving.is_counted() && serving.is_as_good_as(&granted));
        if !waits {
            self.end_all(ledger);
            self.serving = Some(granted);
        } else if let Some(unused) = self.next.replace(granted) {
            ledger.end(unused);
        }
    }

    /// Newer versions of these exist. They are served until those are here.
    pub(super) fn supersede(&mut self, ids: &HashSet<&str>, now: BootTime, ledger: &mut Ledger) {
        for allowance in self.held_mut() {
            if ids.contains(allowance.id()) {
                allowance.superseded = true;
            }
        }
        let is_superseded = |held: &Option<Allowance>| held.as_ref().map(|held| held.superseded);
        if is_superseded(&self.serving) == Some(true) && is_superseded(&self.next) == Some(false) {
            self.go_on(now, ledger);
        }
    }

    /// Ends those of which `ends` is true; tells how many.
    pub(super) fn end_where(
        &mut self,
        ends: impl Fn(&Allowance) -> bool,
        ledger: &mut Ledger,
    ) -> usize {
        let next = self.next.take_if(|next| ends(next));
        let serving = self.serving.take_if(|serving| ends(serving));
        let ended = serving.into_iter().chain(next);
        let ended = ended.map(|allowance| ledger.end(allowance)).count();
        if self.serving.is_none() {
            self.serving = self.next.take();
        }
        ended
    }

    pub(super) fn end_all(&mut self, ledger: &mut Ledger) {
        self.end_where(|_| true, ledger);
    }

    /// Drops what is held without a word: it belonged to another incarnation.
    pub(super) fn forget(&mut self) {
        (self.serving, self.next) = (None, None);
    }

    /// Whether nothing is held or asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.serving.is_none() && self.ask.is_none()
    }

    /// Ends the first and begins the next.
    fn go_on(&mut self, now: BootTime, ledger: &mut Ledger) {
        if let Some(first) = self.serving.take() {
            ledger.end(first);
        }
        self.serving = self.next.take();
        if let Some(allowance) = &mut self.serving {
            allowance.begin(now);
        }
    }
}
