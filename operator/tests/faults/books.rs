//! Whether two books agree: what the workloads received, and what the vault recorded.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::Hash;

use crate::journal::{Ask, Journal};

/// What is on record of one allowance, for one outcome, application and purpose.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) outcome: Outcome,
    /// The run whose incarnation has the allowance, by pod and time.
    pub(crate) run: String,
    /// What the workload said its name was: only of what was served.
    pub(crate) app_name: String,
    pub(crate) purpose: String,
    pub(crate) token: String,
    pub(crate) version: i32,
    pub(crate) count: i64,
    /// The end of the allowance, in seconds since the Unix epoch.
    pub(crate) expires: f64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Served,
    Unaccounted,
    Accounted,
}

/// How a run of a broker went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) killed: bool,
    /// How often it was stopped: each time, it may have been between the count and the
    /// answer until the lease was over.
    pub(crate) pauses: i64,
}

/// The purpose of what is asked for in a second.
pub(crate) fn purpose(second: i64) -> String {
    format!("at {second}")
}

/// All in which the two books do not agree.
pub(crate) fn problems(
    journal: &Journal,
    records: &[Recorded],
    fates: &BTreeMap<String, Fate>,
) -> Vec<String> {
    let mut found = journal.wrong.clone();
    let (mut served_by_ask, mut served_by_version) = (HashMap::new(), HashMap::new());
    let mut declared = HashMap::new();
    for record in records {
        let of_version = (record.run.clone(), record.token.clone(), record.version);
        match record.outcome {
            Outcome::Served => {
                if record.app_name != record.run {
                    found.push(format!("recorded for another broker: {record:?}"));
                }
                let Some(ask) = ask(record) else {
                    found.push(format!("nobody has such a purpose: {record:?}"));
                    continue;
                };
                if record.expires <= ask.second as f64 {
                    found.push(format!("served past its deadline: {record:?}"));
                }
                add(&mut served_by_ask, ask, record.count);
                add(&mut served_by_version, of_version, record.count);
            }
            Outcome::Unaccounted => add(&mut declared, of_version, record.count),
            Outcome::Accounted => add(&mut declared, of_version, -record.count),
        }
    }
    let (mut received_by_ask, mut received_by_version) = (HashMap::new(), HashMap::new());
    let mut maybe_by_token = HashMap::new();
    for ((ask, version), count) in &journal.received {
        let of_version = (ask.run.clone(), ask.token.clone(), *version);
        add(&mut received_by_ask, ask.clone(), *count);
        add(&mut received_by_version, of_version, *count);
    }
    for (ask, count) in &journal.maybe {
        add(
            &mut maybe_by_token,
            (ask.run.clone(), ask.token.clone()),
            *count,
        );
    }

    // What each second saw.
    for ask in keys(&received_by_ask, &served_by_ask) {
        let (received, served) = (of(&received_by_ask, &ask), of(&served_by_ask, &ask));
        let fate = &fates[&ask.run];
        let most = received + of(&journal.maybe, &ask) + fate.pauses;
        if served > most {
            found.push(format!(
                "{ask:?}: {served} on record, at most {most} were served"
            ));
        }
        if !fate.killed && served < received {
            found.push(format!(
                "{ask:?}: {served} on record, {received} were received"
            ));
        }
    }
    // What each version saw, of which a killed broker's losses are known.
    for version in keys(&received_by_version, &served_by_version) {
        let received = of(&received_by_version, &version);
        let served = of(&served_by_version, &version);
        let covered = served + of(&declared, &version);
        if received > covered {
            found.push(format!(
                "{version:?}: {received} received, {covered} covered"
            ));
        }
        let fate = &fates[&version.0];
        let most =
            received + of(&maybe_by_token, &(version.0.clone(), version.1.clone())) + fate.pauses;
        if served > most {
            found.push(format!(
                "{version:?}: {served} on record, at most {most} were served"
            ));
        }
    }
    for (version, count) in &declared {
        if *count < 0 {
            found.push(format!("{version:?}: accounted for twice"));
        }
        if *count > 0 && !fates[&version.0].killed {
            found.push(format!(
                "{version:?}: {count} unaccounted for, of a broker that lives"
            ));
        }
    }
    found
}

/// What the workload asked for when it was served.
fn ask(record: &Recorded) -> Option<Ask> {
    let second = record.purpose.strip_prefix("at ")?.parse().ok()?;
    Some(Ask {
        run: record.app_name.clone(),
        token: record.token.clone(),
        second,
    })
}

fn add<K: Eq + Hash>(sums: &mut HashMap<K, i64>, key: K, count: i64) {
    *sums.entry(key).or_default() += count;
}

fn of<K: Eq + Hash>(sums: &HashMap<K, i64>, key: &K) -> i64 {
    sums.get(key).copied().unwrap_or_default()
}

fn keys<K: Clone + Debug + Eq + Hash + Ord>(
    one: &HashMap<K, i64>,
    other: &HashMap<K, i64>,
) -> Vec<K> {
    let mut keys: Vec<K> = one.keys().chain(other.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}
