//! The allowance, driven through a network that loses, repeats, delays and reorders
//! what it carries, while limits change, brokers are killed and leases end. The
//! calls are the real ones, on a real Postgres; the brokers and the network are a
//! model, so that every schedule follows from its seed alone.
//!
//! `BURSAR_MODEL_SCHEDULES` says how many are tried, `BURSAR_MODEL_SEED` which one is
//! the first: a failure names its seed.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use bursar_vault::QuotaSpec;
use bursar_vault::rows::{Subject, Window};
use bursar_vault::service::Settings;
use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{AskAgain, GrantRequest, GrantResponse, Granted, ReportRequest};

use crate::support::broker::{Broker, Events, served};
use crate::support::replica::Replica;
use crate::support::{Bed, Team, quota};

/// Schedules that are tried unless told otherwise.
const SCHEDULES: u64 = 120;
/// Steps of a schedule between two quiet points.
const STEPS: usize = 25;
/// Quiet points of a schedule.
const QUIET_POINTS: usize = 2;
const BROKERS: usize = 3;
/// Schedules that are under way at the same time, each in a namespace of its own.
const AT_ONCE: u64 = 8;
/// What is read, all of it ana's.
const TOKENS: [&str; 2] = ["github", "slack"];

/// SplitMix64: a few bits of a seed become a schedule.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A question on its way to the vault.
#[derive(Clone)]
enum Question {
    Grant(GrantRequest),
    Report(ReportRequest),
}

/// An answer on its way back.
#[derive(Clone)]
enum Told {
    Granted(u64, Box<GrantResponse>),
    Recorded(u64),
}

/// What a broker holds, and what it has not reported of it.
struct Held {
    granted: Granted,
    left: u32,
    unreported: u32,
    /// Nothing is served from it any more, and it is to be closed.
    ended: bool,
}

/// A broker by the rules: requests are repeated until they are answered, reports are
/// frozen and sent again byte for byte.
struct Modelled {
    broker: Broker,
    events: Events,
    asked: Option<GrantRequest>,
    frozen: Option<ReportRequest>,
    held: BTreeMap<String, Held>,
}

/// One schedule.
struct World<'a> {
    bed: &'a Bed,
    replica: &'a Replica,
    team: Team,
    /// One on all that ana reads, for good; one on each token, in periods.
    limits: Vec<QuotaSpec>,
    /// What each is about.
    subjects: Vec<String>,
    /// The greatest limit that each ever had.
    greatest: Vec<i64>,
    /// How many periods have passed by, in powers of ten.
    rolled_over: i64,
    brokers: Vec<Modelled>,
    /// On their way, each with the broker's place.
    questions: Vec<(usize, Question)>,
    told: Vec<(usize, Told)>,
    /// How often a workload got the token, by allowance: what the records must say.
    truth: HashMap<String, u32>,
    /// Allowances of brokers that were killed.
    orphaned: Vec<String>,
    dice: Dice,
}

impl Modelled {
    async fn new(bed: &Bed, replica: &Replica, team: &Team) -> Self {
        let broker = bed.broker(replica, team, "app").await;
        let (events, _) = broker.watch().await;
        Self {
            broker,
            events,
            asked: None,
            frozen: None,
            held: BTreeMap::new(),
        }
    }

    /// All that is not reported, and the ends of what has ended.
    fn freeze(&mut self) -> ReportRequest {
        if self.frozen.is_none() {
            self.broker.report_seq += 1;
            let mut records = Vec::new();
            let mut closed = Vec::new();
            self.held.retain(|id, held| {
                if held.unreported > 0 {
                    records.push(served(&held.granted, held.unreported));
                    held.unreported = 0;
                }
                if held.ended {
                    closed.push(id.clone());
                }
                !held.ended
            });
            self.frozen = Some(ReportRequest {
                seq: self.broker.report_seq,
                digest: report_digest(&records, &closed).to_vec(),
                records,
                closed_allowance_ids: closed,
            });
        }
        self.frozen.clone().unwrap()
    }

    fn ask(&mut self, token: &str, waiting: u32) -> GrantRequest {
        if self.asked.is_none() {
            self.broker.request_no += 1;
            self.asked = Some(GrantRequest {
                request_no: self.broker.request_no,
                user_id: "ana".into(),
                token: Some(token.into()),
                want: 8,
                waiting,
            });
        }
        self.asked.clone().unwrap()
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Granted(number, answer) => {
                let awaited = self.asked.as_ref().map(|asked| asked.request_no);
                if awaited != Some(number) {
                    return;
                }
                self.asked = None;
                let held = match answer.answer.unwrap() {
                    Answer::Granted(granted) => Held {
                        left: granted.units,
                        unreported: 0,
                        ended: false,
                        granted,
                    },
                    Answer::AskAgain(AskAgain {
                        close_allowance_id: Some(id),
                    }) => Held {
                        left: 0,
                        unreported: 0,
                        ended: true,
                        granted: Granted {
                            allowance_id: id,
                            ..Granted::default()
                        },
                    },
                    Answer::AskAgain(_) | Answer::Denied(_) => return,
                };
                self.held.insert(held.granted.allowance_id.clone(), held);
            }
            Told::Recorded(seq) => {
                if self.frozen.as_ref().is_some_and(|frozen| frozen.seq == seq) {
                    self.frozen = None;
                }
            }
        }
    }
}

impl World<'_> {
    async fn step(&mut self) {
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

    /// What the vault says; nothing when it refuses what came too late.
    async fn call(&self, place: usize, question: Question) -> Option<Told> {
        let broker = &self.brokers[place].broker;
        match question {
            Question::Grant(request) => {
                let number = request.request_no;
                let answer = broker.client.clone().grant(broker.request(request)).await;
                Some(Told::Granted(number, Box::new(answer.ok()?.into_inner())))
            }
            Question::Report(request) => {
                let seq = request.seq;
                let answer = broker.client.clone().report(broker.request(request)).await;
                answer.ok().map(|_| Told::Recorded(seq))
            }
        }
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
        let held = self.brokers[place].held.values_mut();
        for held in held.filter(|held| !held.ended).take(1) {
            let count = held.left.min(u32::try_from(times).unwrap());
            held.left -= count;
            held.unreported += count;
            *self
                .truth
                .entry(held.granted.allowance_id.clone())
                .or_default() += count;
        }
    }

    fn end_any(&mut self, place: usize) {
        if let Some(held) = self.brokers[place].held.values_mut().next() {
            held.ended = true;
        }
    }

    async fn obey(&mut self, place: usize) {
        let broker = &mut self.brokers[place];
        for id in broker.events.recalled_so_far().await {
            if let Some(held) = broker.held.get_mut(&id) {
                held.ended = true;
            }
        }
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
        for broker in &mut self.brokers {
            broker.held.values_mut().for_each(|held| held.ended = true);
        }
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
        self.orphaned.extend(self.bed.texts(&open).await);
    }

    /// All leases end, those of the dead for good.
    async fn end_leases(&mut self) {
        for broker in &mut self.brokers {
            broker.held.values_mut().for_each(|held| held.ended = true);
        }
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
    async fn come_to_rest(&mut self) {
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

    async fn check(&self, seed: u64) {
        let tenant = self.team.tenant.id();
        // I1 and I2.
        let unbalanced = format!(
            "select count(*) from quota_window w, lateral (
                 select coalesce(sum(a.granted - a.returned), 0) as granted,
                        coalesce(sum(a.used), 0) as used
                 from allowance_charge c
                 join allowance a on a.tenant_id = c.tenant_id
                                 and a.allowance_id = c.allowance_id
                 where c.tenant_id = w.tenant_id and c.usage_id = w.usage_id
                   and c.window_no = w.window_no) as sums
             where w.tenant_id = '{tenant}'
               and (w.charged > w.cap or w.charged <> sums.granted or sums.used > w.charged)"
        );
        assert_eq!(self.bed.count(&unbalanced).await, 0, "seed {seed}: charged");
        for (subject, greatest) in self.subjects.iter().zip(&self.greatest) {
            let past = format!(
                "select count(*) from quota_window
                 where tenant_id = '{tenant}' and charged > {greatest}
                   and description like '%{subject}%'"
            );
            assert_eq!(self.bed.count(&past).await, 0, "seed {seed}: past a limit");
        }
        // I3 and I5: no unit has two fates.
        let unexplained = format!(
            "select count(*) from allowance a, lateral (
                 select coalesce(sum(r.count) filter (where r.outcome = 'Served'), 0) as served,
                        coalesce(sum(r.count) filter (where r.outcome = 'Unaccounted'), 0)
                        - coalesce(sum(r.count) filter (where r.outcome = 'Accounted'), 0)
                        as declared
                 from access_record r
                 where r.tenant_id = a.tenant_id and r.allowance_id = a.allowance_id) as sums
             where a.tenant_id = '{tenant}'
               and (a.used <> sums.served or a.used + a.returned > a.granted
                    or sums.declared <> case a.state
                        when 'Lapsed' then a.granted - a.used - a.returned else 0 end
                    or a.state = 'Closed' and a.used + a.returned <> a.granted)"
        );
        assert_eq!(self.bed.count(&unexplained).await, 0, "seed {seed}: fates");
        // I3: what each allowance was used for is on record, once.
        let of = |outcome: &str| {
            format!(
                "select allowance_id::text, sum(count)::bigint from access_record
                 where tenant_id = '{tenant}' and outcome = '{outcome}' group by 1"
            )
        };
        let recorded = self.bed.counts(&of("Served")).await;
        let unaccounted = self.bed.counts(&of("Unaccounted")).await;
        let accounted = self.bed.counts(&of("Accounted")).await;
        let count = |map: &HashMap<String, i64>, id: &str| map.get(id).copied().unwrap_or(0);
        for (id, served) in &self.truth {
            let (served, recorded) = (i64::from(*served), count(&recorded, id));
            let declared = count(&unaccounted, id) - count(&accounted, id);
            if self.orphaned.contains(id) {
                assert!(recorded <= served, "seed {seed}: {id} invented");
                let open = format!(
                    "select count(*) from allowance where allowance_id = '{id}' and state = 'Open'"
                );
                if self.bed.count(&open).await == 0 {
                    assert!(served <= recorded + declared, "seed {seed}: {id} lost");
                }
            } else {
                assert_eq!(recorded, served, "seed {seed}: {id}");
            }
            assert!(declared >= 0, "seed {seed}: {id} accounted for twice");
        }
        assert!(
            recorded.keys().all(|id| self.truth.contains_key(id)),
            "seed {seed}: a record of nothing"
        );
        // I8: also while sweep and late reports go on.
        let vault = self.bed.controllers.vault();
        let verified = vault.verify_audit(tenant, None).await.unwrap();
        assert_eq!(verified.first_bad, None, "seed {seed}");
    }
}

async fn schedule(bed: &Bed, replica: &Replica, seed: u64) {
    let team = bed.team(&format!("team-{seed}")).await;
    let ana = bed.user(&team, "ana").await;
    let mut limits = vec![quota("of-ana", Subject::User(ana.uid), 60)];
    let mut subjects = vec![ana.uid.to_string()];
    for name in TOKENS {
        let token = bed.token(&team, &ana, name).await;
        subjects.push(token.id.to_string());
        limits.push(QuotaSpec {
            window: Window::Period(NonZeroU32::new(86_400).unwrap()),
            ..quota(&format!("of-{name}"), Subject::Token(token.id), 40)
        });
    }
    for place in 0..limits.len() {
        let ids: Vec<_> = limits[..=place].iter().map(|quota| quota.id).collect();
        bed.apply_quota_of(&team, &limits[place], &ids).await;
    }
    let mut world = World {
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
        dice: Dice(seed),
        team,
    };
    for _ in 0..BROKERS {
        let broker = Modelled::new(bed, replica, &world.team).await;
        world.brokers.push(broker);
    }
    for _ in 0..QUIET_POINTS {
        for _ in 0..STEPS {
            world.step().await;
        }
        world.come_to_rest().await;
        world.check(seed).await;
    }
    // I4: brokers that end in good order leave nothing open.
    for place in 0..BROKERS {
        for held in world.brokers[place].held.values_mut() {
            held.ended = true;
        }
    }
    world.come_to_rest().await;
    world.check(seed).await;
    let living: Vec<String> = world
        .brokers
        .iter()
        .map(|broker| format!("'{}'", broker.broker.incarnation_uuid()))
        .collect();
    let open = format!(
        "select count(*) from allowance where state = 'Open' and incarnation_id in ({})",
        living.join(", ")
    );
    assert_eq!(bed.count(&open).await, 0, "seed {seed}: left open");
}

/// To the one who runs the test, who sees no output of what passes.
fn tell(text: &str) {
    println!("{text}");
    if let Some(path) = std::env::var_os("BURSAR_TEST_SUMMARY") {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{text}").unwrap();
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_access_is_recorded_once_and_no_quota_is_exceeded_whatever_the_network_does() {
    // Longer than a schedule, and no longer than the sweep takes to begin.
    let bed = Bed::with_lease("model", Duration::from_secs(5)).await;
    let quick = Settings {
        lapse_grace: Duration::ZERO,
        sweep_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    let first = number("BURSAR_MODEL_SEED").unwrap_or(1);
    let schedules = number("BURSAR_MODEL_SCHEDULES").unwrap_or(SCHEDULES);
    let tracks = (0..AT_ONCE).map(async |track| {
        for seed in (first..first + schedules)
            .skip(usize::try_from(track).unwrap())
            .step_by(usize::try_from(AT_ONCE).unwrap())
        {
            schedule(&bed, &replica, seed).await;
        }
    });
    futures::future::join_all(tracks).await;
    let deadlocks = "select coalesce(sum(deadlocks), 0)::bigint from pg_stat_database
                     where datname = current_database()";
    // I9.
    assert_eq!(bed.count(deadlocks).await, 0);
    let records = bed.count("select count(*) from access_record").await;
    let lapsed = bed
        .count("select count(*) from allowance where state = 'Lapsed'")
        .await;
    assert!(
        records > 0 && lapsed > 0,
        "{records} records, {lapsed} lapsed"
    );
    tell(&format!(
        "model: seeds {first} to {}: {records} records, {lapsed} allowances lapsed",
        first + schedules - 1
    ));
    replica.stop().await;
}
