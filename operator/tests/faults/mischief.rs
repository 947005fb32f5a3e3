//! The faults, in an order that follows from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_testbed::Dice;
use tokio::time::{Instant, sleep};

use crate::bed::Bed;
use crate::limits::Change;

/// Longer than the lease is.
const LONG: Duration = Duration::from_secs(17);

/// What happens in a round, and how often for each time something else does.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    BrokerKilled,
    ReplicaKilled,
    PostgresKilled,
    BackendKilled,
    PostgresStopped,
    PostgresPaused,
    BrokerPaused,
    AnswersLost,
}

const FAULTS: [(Fault, usize); 8] = [
    (Fault::BrokerKilled, 8),
    (Fault::ReplicaKilled, 6),
    (Fault::PostgresKilled, 4),
    (Fault::BackendKilled, 3),
    (Fault::PostgresStopped, 1),
    (Fault::PostgresPaused, 2),
    (Fault::BrokerPaused, 3),
    (Fault::AnswersLost, 5),
];

pub(crate) struct Mischief {
    dice: Dice,
    done: BTreeMap<String, u64>,
    /// Until when brokers are stopped, by their pod's place.
    paused: BTreeMap<usize, Instant>,
}

impl Mischief {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            done: BTreeMap::new(),
            paused: BTreeMap::new(),
        }
    }

    /// One fault, often a change of a quota or a token, and a while.
    pub(crate) async fn round(&mut self, bed: &mut Bed, round: u64) {
        self.resume_those_due(bed);
        let fault = self.fault();
        println!("faults: round {round}: {fault:?}");
        if self.do_it(bed, fault).await {
            self.count(&format!("{fault:?}"));
        }
        if self.dice.one_in(2) {
            let used = bed.journal.received();
            let change = bed.limits.change(&mut self.dice, used).await;
            self.count(&format!("Quota{change:?}"));
            // Deleting one is only half of the story.
            if matches!(change, Change::Deleted) {
                sleep(self.a_while(100, 400)).await;
            }
        }
        if self.dice.one_in(10) {
            bed.rotate().await;
            self.count("TokenRotated");
        }
        sleep(self.a_while(100, 900)).await;
        bed.assert_balanced().await;
    }

    fn fault(&mut self) -> Fault {
        let total = FAULTS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.dice.below(total);
        for (fault, weight) in FAULTS {
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => return fault,
            }
        }
        unreachable!("the weights add up to their sum")
    }

    /// Whether there was something that it could happen to.
    async fn do_it(&mut self, bed: &mut Bed, fault: Fault) -> bool {
        let pod = self.dice.below(bed.pods.len());
        let replica = self.dice.below(bed.replicas.len());
        match fault {
            Fault::BrokerKilled => {
                self.paused.remove(&pod);
                bed.pods[pod].kill().await;
            }
            Fault::ReplicaKilled => bed.kill_replica(replica).await,
            Fault::PostgresKilled => {
                bed.testbed.postgres().kill();
                sleep(self.a_while(0, 500)).await;
                bed.testbed.postgres().restart().await.unwrap();
            }
            Fault::BackendKilled => {
                let role = bed.database.runtime_role.clone();
                let pick = self.dice.below(1_000);
                return bed.testbed.postgres().kill_backend(&role, pick);
            }
            Fault::PostgresStopped => {
                bed.testbed.postgres().stop();
                sleep(self.a_while(0, 1_000)).await;
                bed.testbed.postgres().restart().await.unwrap();
            }
            Fault::PostgresPaused => {
                bed.testbed.postgres().pause();
                sleep(self.a_while(200, 3_000)).await;
                bed.testbed.postgres().resume();
            }
            Fault::BrokerPaused => {
                // At most half of them.
                let has_room = self.paused.len() * 2 < bed.pods.len();
                if !has_room || self.paused.contains_key(&pod) {
                    return false;
                }
                bed.pods[pod].pause();
                self.paused.insert(pod, Instant::now() + LONG);
            }
            Fault::AnswersLost => {
                let link = bed.pods[pod].vault.clone();
                link.lose_answers(self.a_while(20, 700)).await;
            }
        }
        true
    }

    fn resume_those_due(&mut self, bed: &mut Bed) {
        let now = Instant::now();
        self.paused.retain(|pod, until| {
            if *until <= now {
                bed.pods[*pod].resume();
            }
            *until > now
        });
    }

    /// The end of all faults but one: a broker that is stopped until it is resumed; its pod.
    pub(crate) async fn end(&mut self, bed: &mut Bed) -> usize {
        while !self.paused.is_empty() {
            sleep(Duration::from_millis(100)).await;
            self.resume_those_due(bed);
        }
        let used = bed.journal.received();
        bed.limits.make_room(used).await;
        let late = self.dice.below(bed.pods.len());
        bed.pods[late].until_ready().await;
        bed.until_granted(late).await;
        bed.pods[late].pause();
        self.count("BrokerPaused");
        late
    }

    fn a_while(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.dice.between(least, most))
    }

    fn count(&mut self, what: &str) {
        *self.done.entry(what.to_owned()).or_default() += 1;
    }

    /// How often what was done.
    pub(crate) fn summary(&self) -> String {
        let each = self
            .done
            .iter()
            .map(|(what, count)| format!("{what} {count}"));
        each.collect::<Vec<_>>().join(", ")
    }
}
