//! Holdings, with a vault that the test plays.

use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{Denied, GrantRequest, Granted, denied};
use serde_json::Value;
use tokio::sync::watch;

use super::{Holdings, Outcome, Served};
use crate::allowance::key::EntryKey;
use crate::allowance::testing::{ManualClock, access, granted, tenant};
use crate::clock::Clock as _;

/// Holdings with a vault played by the test.
pub(super) struct Scene {
    pub(super) holdings: Holdings,
    pub(super) clock: ManualClock,
    pub(super) key: EntryKey,
}

impl Holdings {
    pub(super) fn nothing_is_queued(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut holdings = Holdings::default();
        let clock = ManualClock::new();
        holdings.attached(clock.boot());
        Self {
            holdings,
            clock,
            key: EntryKey::new("ana", Some("github")),
        }
    }

    pub(super) fn serve(&mut self) -> Served {
        self.holdings
            .serve(&self.key, access(&self.clock), &self.clock)
    }

    pub(super) fn value(&mut self) -> Option<String> {
        match self.serve() {
            Served::Body(body) => {
                let answer: Value = serde_json::from_slice(&body).unwrap();
                Some(answer["token"].as_str().unwrap().to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn asked(&mut self) -> watch::Receiver<Option<Outcome>> {
        match self.serve() {
            Served::Asked(outcome) => outcome,
            _ => panic!("the vault should have been asked"),
        }
    }

    pub(super) fn next_grant(&mut self) -> Option<GrantRequest> {
        self.holdings.next_grant(self.clock.boot())
    }

    pub(super) fn settle(&mut self, answer: Answer) {
        self.holdings
            .settle(Some(answer), tenant(), 128, self.clock.boot());
    }

    /// Asks for and takes an allowance.
    pub(super) fn hold(&mut self, granted: Granted) {
        let outcome = self.asked();
        self.next_grant().unwrap();
        self.settle(Answer::Granted(granted));
        assert!(matches!(*outcome.borrow(), Some(Outcome::LookAgain)));
    }

    pub(super) fn deny(&mut self, code: denied::Code) {
        self.settle(Answer::Denied(Denied {
            code: code.into(),
            ..Denied::default()
        }));
    }

    /// What the next report says: accesses and closed allowances.
    pub(super) fn report(&mut self) -> (u32, Vec<String>) {
        let Some(batch) = self.holdings.next_batch() else {
            return (0, Vec::new());
        };
        self.holdings.acknowledge(batch.seq);
        (
            batch.records.iter().map(|record| record.count).sum(),
            batch.closed_allowance_ids,
        )
    }
}

pub(super) fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// As `granted`, of accesses that quotas count.
pub(super) fn counted(id: &str, units: u32) -> Granted {
    Granted {
        counted: true,
        ..granted(id, units, b"s3cret")
    }
}
