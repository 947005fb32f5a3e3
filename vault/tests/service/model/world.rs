//! What happens in a schedule, and what of it reaches whom.

use std::collections::HashMap;
use std::num::NonZeroU32;

use bursar_testbed::Dice;
use bursar_vault::QuotaSpec;
use bursar_vault::rows::{Subject, Window};
use tonic::Code;

use super::broker::{Modelled, Question, Told};
use crate::support::replica::Replica;
use crate::support::{Bed, Team, quota};

const BROKERS: usize = 3;
/// What is read, all of it ana's.
const TOKENS: [&str; 2] = ["github", "slack"];

/// One schedule.
pub(super) struct World<'a> {
    pub(super) bed: &'a Bed,
    replica: &'a Replica,
    pub(super) team: Team,
    /// One on all that ana reads, for good; one on each token, in periods.
    limits: Vec<QuotaSpec>,
    /// What each is about.
    pub(super) subjects: Vec<String>,
    /// The greatest limit that each ever had.
    pub(super) greatest: Vec<i64>,
    /// How many periods have passed by, in powers of ten.
    rolled_over: i64,
    pub(super) brokers: Vec<Modelled>,
    /// On their way, each with the broker's place.
    questions: Vec<(usize, Question)>,
    told: Vec<(usize, Told)>,
    /// How often a workload got the token, by allowance: what the records must say.
    pub(super) truth: HashMap<String, u32>,
    /// Allowances of brokers that were killed.
    pub(super) orphaned: Vec<String>,
    dice: Dice,
    /// What came of what was done, step by step.
    pub(super) trace: Vec<String>,
}

impl<'a> World<'a> {
    /// Quotas on a user and on each token, and brokers that hold nothing yet.
    pub(super) async fn new(
        bed: &'a Bed,
        replica: &'a Replica,
        namespace: &str,
        seed: u64,
    ) -> Self {
        let team = bed.team(namespace).await;
        let ana = bed.user(&team, "ana").await;
        let mut limits = vec![quota("of-ana", Subject::User(ana.uid), 60)];
        let mut subjects = vec![ana.uid.to_string()];
        for name in TOKENS {
            let token = bed.token(&team, &ana, name).await;
            subjects.push(token.id.to_string());
            limits.push(QuotaSpec {
                window: Window::Period(NonZeroU32::MAX),
                ..quota(&format!("of-{name}"), Subject::Token(token.id), 40)
            });
        }
        for place in 0..limits.len() {
            let ids: Vec<_> = limits[..=place].iter().map(|quota| quota.id).collect();
            bed.apply_quota_of(&team, &limits[place], &ids).await;
        }
        let mut world = Self {
            brokers: Vec::new(),
            bed,
            replica,
            greatest: limits.iter().map(|quota| quota.limit).collect(),
            limits,
            subjects,
            rolled_over: 0,
            questions: Vec::new(),
            told: Vec::new(),
            truth: HashMap::new(),
            orphaned: Vec::new(),
            dice: Dice::new(seed),
            trace: Vec::new(),
            team,
        };
        for _ in 0..BROKERS {
            let broker = Modelled::new(bed, replica, &world.team).await;
            world.brokers.push(broker);
        }
        world
    }

    pub(super) async fn step(&mut self) {
        let place = self.dice.below(BROKERS);
        match self.dice.below(20) {
            0..=2 => {
                let waiting = u32::from(self.dice.one_in(20));
                let token = TOKENS[self.dice.below(TOKENS.len())];
                let question = Question::Grant(self.brokers[place].ask(token, waiting));
                self.questions.push((place, question));
            }
            3..=5 => {
                let question = Question::Report(self.brokers[place].freeze());
                self.questions.push((place, question));
            }
            6..=9 => self.deliver_any().await,
            10..=11 => self.hear_any(),
            12 if !self.questions.is_empty() => {
                let lost = self.dice.below(self.questions.len());
                self.questions.swap_remove(lost);
            }
            13..=15 => self.serve(place),
            16 => self.end_any(place),
            17 => self.obey(place).await,
            18 if self.dice.one_in(4) => self.roll_over().await,
            18 => self.change_limit().await,
            19 if self.dice.one_in(3) => self.kill(place).await,
            19 if self.dice.one_in(2) => self.end_leases().await,
            _ => {}
        }
    }

    /// One question, not always the oldest, reaches the vault; it may stay on its way
    /// and arrive again, and its answer may be lost.
    async fn deliver_any(&mut self) {
        if self.questions.is_empty() {
            return;
        }
        let which = self.dice.below(self.questions.len());
        let (place, question) = match self.dice.one_in(4) {
            true => self.questions[which].clone(),
            false => self.questions.swap_remove(which),
        };
        let told = self.call(place, question).await;
        if !self.dice.one_in(4) {
            self.told.extend(told.map(|told| (place, told)));
        }
    }

    /// What the vault says; nothing when it refuses what came too late or too soon.
    async fn call(&mut self, place: usize, question: Question) -> Option<Told> {
        let broker = &self.brokers[place].broker;
        let mut client = broker.client.clone();
        let (told, trace) = match question {
            Question::Grant(request) => {
                let number = request.request_no;
                let answer = client.grant(broker.request(request)).await;
                let told =
                    answer.map(|answer| Told::Granted(number, Box::new(answer.into_inner())));
                (told, format!("grant {number}"))
            }
            Question::Report(request) => {
                let seq = request.seq;
                let (records, closed) = (request.records.len(), request.closed_allowance_ids.len());
                let answer = client.report(broker.request(request)).await;
                let trace = format!("report {seq} of {records} records, {closed} closed");
                (answer.map(|_| Told::Recorded(seq)), trace)
            }
        };
        let answer = match &told {
            Ok(told) => told.summary(),
            // Nothing else that it refuses follows from the schedule.
            Err(refused) if refused.code() == Code::FailedPrecondition => "refused".to_owned(),
            Err(failed) => panic!("{place}: {trace}: {failed}"),
        };
        self.trace.push(format!("{place}: {trace}: {answer}"));
        told.ok()
    }

    /// One answer, not always the oldest, arrives, perhaps not for the last time.
    fn hear_any(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let which = self.dice.below(self.told.len());
        let (place, told) = match self.dice.one_in(5) {
            true => self.told[which].clone(),
            false => self.told.swap_remove(which),
        };
        self.brokers[place].hear(told);
    }

    fn serve(&mut self, place: usize) {
        let times = 1 + self.dice.below(4);
        let held = self.brokers[place].held.iter_mut();
        let held: Vec<_> = held.filter(|(_, held)| !held.ended).collect();
        let choices = held.len();
        if let Some((number, held)) = held.into_iter().next() {
            let count = held.left.min(u32::try_from(times).unwrap());
            held.left -= count;
            held.unreported += count;
            *self
                .truth
                .entry(held.granted.allowance_id.clone())
                .or_default() += count;
            let trace = format!("{place}: {count} served of {number}, one of {choices}");
            self.trace.push(trace);
        }
    }

    fn end_any(&mut self, place: usize) {
        if let Some((number, held)) = self.brokers[place].held.iter_mut().next() {
            held.ended = true;
            self.trace.push(format!("{place}: {number} ended"));
        }
    }

    /// Nothing is served any more from what any broker holds.
    pub(super) fn end_all(&mut self) {
        for broker in &mut self.brokers {
            broker.held.values_mut().for_each(|held| held.ended = true);
        }
    }

    /// What the vault has taken back of what it holds by now, it has been told or will be.
    async fn obey(&mut self, place: usize) {
        let broker = &mut self.brokers[place];
        let changed = format!(
            "select allowance_id::text from allowance_standing
             where tenant_id = '{}' and incarnation_id = '{}' and standing <> 'Good'",
            self.team.tenant.id(),
            broker.broker.incarnation_uuid()
        );
        let changed = self.bed.texts(&changed).await;
        let numbers = broker.give_back(&changed).await;
        self.trace.push(format!("{place}: gives back {numbers:?}"));
    }

    async fn change_limit(&mut self) {
        let which = self.dice.below(self.limits.len());
        let limit = i64::try_from(self.dice.below(60)).unwrap();
        self.limits[which].limit = limit;
        self.greatest[which] = self.greatest[which].max(limit);
        let ids: Vec<_> = self.limits.iter().map(|quota| quota.id).collect();
        self.bed
            .apply_quota_of(&self.team, &self.limits[which], &ids)
            .await;
    }

    /// A period is over, and with it every allowance that was charged to it: what comes of
    /// those now is returned to windows that are past.
    async fn roll_over(&mut self) {
        self.end_all();
        let tenant = self.team.tenant.id();
        // Never by as much as two windows are apart.
        let by = 10_i64.pow(u32::try_from(self.rolled_over).unwrap());
        self.rolled_over += 1;
        let both = format!(
            "with periods as (
                 update quota_window set window_no = window_no - {by}
                 where tenant_id = '{tenant}' and description like '%s'
                 returning usage_id
             )
             update allowance_charge set window_no = window_no - {by}
             where tenant_id = '{tenant}' and usage_id in (select usage_id from periods)"
        );
        self.bed.tamper(&both).await;
    }

    /// A broker dies with all it has not reported; another pod takes its place.
    async fn kill(&mut self, place: usize) {
        self.questions.retain(|(of, _)| *of != place);
        self.told.retain(|(of, _)| *of != place);
        let fresh = Modelled::new(self.bed, self.replica, &self.team).await;
        let dead = std::mem::replace(&mut self.brokers[place], fresh);
        let id = dead.broker.incarnation_uuid();
        let open =
            format!("select allowance_id::text from allowance where incarnation_id = '{id}'");
        let open = self.bed.texts(&open).await;
        self.trace
            .push(format!("{place}: killed with {}", open.len()));
        self.orphaned.extend(open);
    }

    /// All leases end, those of the dead for good.
    async fn end_leases(&mut self) {
        self.end_all();
        let tenant = self.team.tenant.id();
        let over = format!(
            "update allowance set expires_time = now() - interval '1 day'
             where tenant_id = '{tenant}' and state = 'Open'"
        );
        self.bed.tamper(&over).await;
        let open = format!(
            "select count(*) from allowance where tenant_id = '{tenant}' and state = 'Open'
                 and expires_time < now()"
        );
        self.bed.until_count(&open, 0).await;
    }

    /// Everything that is on its way is lost, and every broker gets its answers.
    pub(super) async fn come_to_rest(&mut self) {
        self.questions.clear();
        self.told.clear();
        for place in 0..BROKERS {
            self.obey(place).await;
            if let Some(asked) = self.brokers[place].asked.clone() {
                let told = self.call(place, Question::Grant(asked)).await;
                self.brokers[place].hear(told.expect("a repeated request is answered"));
            }
            // The frozen one first, then what came since.
            for _ in 0..2 {
                let report = self.brokers[place].freeze();
                let told = self.call(place, Question::Report(report)).await;
                self.brokers[place].hear(told.expect("a repeated report is acknowledged"));
            }
        }
    }
}
