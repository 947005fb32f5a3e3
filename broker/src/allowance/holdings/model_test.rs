//! Random schedules against a model of the vault: answers get lost, are late
//! and overtaken by events; clocks move; the broker ends. Whatever happens, an
//! allowance serves no more than was granted, nothing after it was recalled or
//! its lease was over, and in the end the vault has each access exactly once
//! (or it is known to be lost, where the incarnation was ended).
//!
//! A failure names its seed; [`run`] with that seed is the same schedule again.

use std::time::Duration;

use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{GrantRequest, Granted};

use serde_json::Value;
use tokio::sync::watch;

use super::model_vault::ModelVault;
use super::{Holdings, Outcome, Served};
use crate::allowance::denials::Denial;
use crate::allowance::key::EntryKey;
use crate::allowance::testing::{ManualClock, access, granted, tenant};
use crate::clock::Clock as _;

const SEEDS: u64 = 2_000;
const STEPS: usize = 150;

/// A sequence of numbers that a seed fixes (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

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
}

impl Model {
    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=8 => self.serve(),
            9..=11 => self.ask(),
            12 => self.late_call_arrives(),
            13 | 14 => self.report(),
            15 => self.recall(),
            16 => self.supersede(),
            17 => {
                let seconds = self.dice.roll(30);
                self.clock.advance(Duration::from_secs(seconds));
            }
            18 => match self.roll(4) {
                0 => self.holdings.detached(false),
                1 => self.holdings.detached(true),
                _ => self.holdings.attached(self.clock.boot()),
            },
            _ => {
                self.vault.revoked = false;
                self.holdings.forget_denials();
                self.holdings.sweep(self.clock.boot());
                if self.dice.roll(5) == 0 {
                    self.fence();
                }
            }
        }
    }

    fn roll(&mut self, sides: usize) -> usize {
        usize::try_from(self.dice.roll(sides as u64)).unwrap()
    }

    fn serve(&mut self) {
        let key = self.keys[self.roll(3)].clone();
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
        if self.dice.roll(30) == 0 {
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
        match self.roll(8) {
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
        let n = self.roll(self.late.len());
        let request = match self.roll(2) {
            0 => self.late[n].clone(),
            _ => self.late.swap_remove(n),
        };
        self.vault.grant(request, &self.sealed, self.clock.boot());
    }

    fn answer_arrives(&mut self) {
        if let Some(answer) = self.answer.take() {
            let jitter = u8::try_from(self.dice.roll(256)).unwrap();
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
        if self.dice.roll(3) > 0 {
            self.holdings.acknowledge(batch.seq);
        }
    }

    /// Everything is revoked; the event overtakes the answer under way.
    fn recall(&mut self) {
        self.vault.revoked = self.dice.roll(2) == 0;
        let ids = self.vault.open();
        for id in &ids {
            self.vault.allowances.get_mut(id).unwrap().recalled = true;
        }
        self.holdings.recall(&ids);
    }

    /// One at a time: the order of several would not follow from the seed.
    fn supersede(&mut self) {
        let open = self.vault.open();
        if !open.is_empty() {
            let id = open[self.roll(open.len())].clone();
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
            match self.dice.roll(3) {
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

/// Runs one schedule; returns how many accesses it served.
fn run(seed: u64, sealed: &Granted) -> u64 {
    let mut holdings = Holdings::default();
    let clock = ManualClock::new();
    holdings.attached(clock.boot());
    let mut model = Model {
        dice: Dice(seed),
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
    };
    for _ in 0..STEPS {
        model.step();
    }
    model.end();
    model.served
}

#[test]
fn in_every_schedule_each_access_is_granted_and_recorded_exactly_once() {
    let sealed = granted("", 1, b"s3cret");
    let mut served = 0;
    for seed in 0..SEEDS {
        let schedule = || run(seed, &sealed);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(schedule)) {
            Ok(count) => served += count,
            Err(_) => panic!("the schedule of seed {seed} failed, see above"),
        }
    }
    // The schedules do what they are about.
    assert!(served > 5 * SEEDS, "{served}");
}
