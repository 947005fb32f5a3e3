//! Random schedules against a model of the vault: answers get lost, are late
//! and overtaken by events; clocks move; the broker ends. Whatever happens, an
//! allowance serves no more than was granted, nothing after it was recalled or
//! its lease was over, and in the end the vault has each access exactly once
//! (or it is known to be lost, where the incarnation was ended).
//!
//! A failure names its seed; [`run`] with that seed is the same schedule again.

use std::time::Duration;

use bursar_testbed::Dice;
use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{GrantRequest, Granted};
use serde_json::Value;
use tokio::sync::watch;

use super::entry::Entry;
use super::model_vault::ModelVault;
use super::{Holdings, Outcome, Served};
use crate::allowance::denials::Denial;
use crate::allowance::key::EntryKey;
use crate::allowance::testing::{ManualClock, access, granted, tenant};
use crate::clock::Clock as _;

const SEEDS: u64 = 2_000;
const STEPS: usize = 150;

/// The vault, the broker, and what is on its way between them.
struct Model {
    dice: Dice,
    clock: ManualClock,
    vault: ModelVault,
    holdings: Holdings,
    keys: [EntryKey; 3],
    sealed: Granted,
    /// An answer on its way.
    answer: Option<Answer>,
    /// Requests on their way whose calls broke off.
    late: Vec<GrantRequest>,
    waiting: Vec<watch::Receiver<Option<Outcome>>>,
    served: u64,
    recorded: u64,
    lost: u64,
    /// Steps that found a successor waiting for its turn.
    waited: u64,
}

impl Model {
    fn step(&mut self) {
        let successor = |entry: &Entry| entry.held().count() > 1;
        self.waited += u64::from(self.holdings.entries.values().any(successor));
        match self.dice.below(20) {
            0..=8 => self.serve(),
            9..=11 => self.ask(),
            12 => self.late_call_arrives(),
            13 | 14 => self.report(),
            15 => self.recall(),
            16 => self.supersede(),
            17 => {
                let seconds = self.dice.between(0, 29);
                self.clock.advance(Duration::from_secs(seconds));
            }
            18 => match self.dice.below(4) {
                0 => self.holdings.detached(false),
                1 => self.holdings.detached(true),
                _ => self.holdings.attached(self.clock.boot()),
            },
            _ => {
                self.vault.revoked = false;
                self.holdings.forget_denials();
                self.holdings.sweep(self.clock.boot());
                if self.dice.one_in(5) {
                    self.fence();
                }
            }
        }
    }

    fn serve(&mut self) {
        let key = self.keys[self.dice.below(3)].clone();
        let now = self.clock.boot();
        match self.holdings.serve(&key, access(&self.clock), &self.clock) {
            Served::Body(body) => {
                self.served += 1;
                let answer: Value = serde_json::from_slice(&body).unwrap();
                let booked = &self.vault.allowances[answer["provider"].as_str().unwrap()];
                assert!(!booked.recalled, "nothing is served after a recall");
                assert!(!booked.closed, "nothing is served after a close");
                assert!(now < booked.ends, "nothing is served after the lease");
            }
            Served::Asked(outcome) => self.waiting.push(outcome),
            Served::Refused(_) | Served::VaultAway => {}
        }
        // Now and then all who wait give up.
        if self.dice.one_in(30) {
            self.waiting.clear();
        }
    }

    /// A call to the vault, and what may become of it.
    fn ask(&mut self) {
        let now = self.clock.boot();
        if self.answer.is_some() {
            return self.answer_arrives();
        }
        let Some(request) = self.holdings.next_grant(now) else {
            return;
        };
        match self.dice.below(8) {
            // It broke off on its way there, and arrives at any time, or never.
            0 | 1 => {
                self.late.push(request);
                self.holdings.fail(Denial::Unavailable, now);
            }
            // An error before the vault had committed.
            2 => {
                self.holdings.fail(Denial::Unavailable, now);
            }
            // An error after that, or it broke off on its way back.
            3 => {
                self.vault.grant(request, &self.sealed, now);
                self.holdings.fail(Denial::Unavailable, now);
            }
            // An answer, now or in a while.
            n => {
                self.answer = self.vault.grant(request, &self.sealed, now);
                if n > 5 {
                    self.answer_arrives();
                }
            }
        }
    }

    /// A call that broke off reaches the vault after all, once or twice. Nobody hears
    /// the answer.
    fn late_call_arrives(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let n = self.dice.below(self.late.len());
        let request = match self.dice.below(2) {
            0 => self.late[n].clone(),
            _ => self.late.swap_remove(n),
        };
        self.vault.grant(request, &self.sealed, self.clock.boot());
    }

    fn answer_arrives(&mut self) {
        if let Some(answer) = self.answer.take() {
            let jitter = u8::try_from(self.dice.below(256)).unwrap();
            self.holdings
                .settle(Some(answer), tenant(), jitter, self.clock.boot());
        }
    }

    /// The vault records a batch; its acknowledgement may be lost.
    fn report(&mut self) {
        let Some(batch) = self.holdings.next_batch() else {
            return;
        };
        self.vault.report(&batch);
        if !self.dice.one_in(3) {
            self.holdings.acknowledge(batch.seq);
        }
    }

    /// Everything is revoked, or others need what one allowance holds; the event
    /// overtakes the answer under way.
    fn recall(&mut self) {
        let mut ids = self.vault.open();
        if self.dice.one_in(2) {
            self.vault.revoked = self.dice.one_in(2);
        } else if !ids.is_empty() {
            ids = vec![ids.swap_remove(self.dice.below(ids.len()))];
        }
        for id in &ids {
            self.vault.allowances.get_mut(id).unwrap().recalled = true;
        }
        self.holdings.recall(&ids);
    }

    /// One at a time: the order of several would not follow from the seed.
    fn supersede(&mut self) {
        let open = self.vault.open();
        if !open.is_empty() {
            let id = open[self.dice.below(open.len())].clone();
            self.holdings.supersede(&[id], self.clock.boot());
        }
    }

    /// The incarnation ends. What was not reported by then is lost; what was
    /// reported and not acknowledged counts as lost here, and is on record.
    fn fence(&mut self) {
        self.recorded += self.vault.recorded();
        self.vault = ModelVault::default();
        self.answer = None;
        self.late.clear();
        self.lost += self.holdings.start_over();
    }

    fn end(&mut self) {
        self.holdings.close();
        while !self.holdings.is_settled() {
            self.clock.advance(Duration::from_secs(1));
            match self.dice.below(3) {
                0 => self.ask(),
                1 => self.report(),
                _ => self.late_call_arrives(),
            }
        }
        while !self.late.is_empty() {
            self.late_call_arrives();
        }
        self.recorded += self.vault.recorded();
        assert!(self.recorded <= self.served, "no access is on record twice");
        assert!(
            self.served <= self.recorded + self.lost,
            "no access is missing"
        );
        assert_eq!(
            self.vault.open(),
            Vec::<String>::new(),
            "all is handed back"
        );
    }
}

/// Runs one schedule; returns how many accesses it served, and how many of its steps
/// found a successor waiting for its turn.
fn run(seed: u64, sealed: &Granted) -> (u64, u64) {
    let mut holdings = Holdings::default();
    let clock = ManualClock::new();
    holdings.attached(clock.boot());
    let mut model = Model {
        dice: Dice::new(seed),
        clock,
        vault: ModelVault::default(),
        holdings,
        keys: ["a", "b", "c"].map(|token| EntryKey::new("ana", Some(token))),
        sealed: sealed.clone(),
        answer: None,
        late: Vec::new(),
        waiting: Vec::new(),
        served: 0,
        recorded: 0,
        lost: 0,
        waited: 0,
    };
    for _ in 0..STEPS {
        model.step();
    }
    model.end();
    (model.served, model.waited)
}

#[test]
fn in_every_schedule_each_access_is_granted_and_recorded_exactly_once() {
    let sealed = granted("", 1, b"s3cret");
    let mut sums = (0, 0);
    for seed in 0..SEEDS {
        let schedule = || run(seed, &sealed);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(schedule)) {
            Ok((served, waited)) => sums = (sums.0 + served, sums.1 + waited),
            Err(_) => panic!("the schedule of seed {seed} failed, see above"),
        }
    }
    // The schedules do what they are about.
    let (served, waited) = sums;
    assert!(served > 5 * SEEDS && waited > SEEDS / 10, "{sums:?}");
}
