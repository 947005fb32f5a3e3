//! What the workloads themselves know: what they received, and what may have been served
//! to them without arriving.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// Which accesses: those of one run of a broker, to one token, asked for in one second.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Ask {
    /// The name of the run, which the workload gives as its own.
    pub(crate) run: String,
    pub(crate) token: String,
    /// Since the Unix epoch; the workload gives it as its purpose.
    pub(crate) second: i64,
}

/// What became of one access.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The answer had a value, whole.
    Received { version: i32, value: String },
    /// It was a refusal.
    Refused(String),
    /// There was none, or a part of one.
    Lost,
    /// Nobody was there to be asked.
    NotAsked,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) asked: u64,
    pub(crate) received: HashMap<(Ask, i32), i64>,
    pub(crate) maybe: HashMap<Ask, i64>,
    pub(crate) refused: BTreeMap<String, u64>,
    /// Accesses that began and ended in one minute, by token and minute.
    pub(crate) in_minute: HashMap<(String, i64), i64>,
    /// Values by token and version: there is one of each.
    pub(crate) values: HashMap<(String, i32), String>,
    pub(crate) wrong: Vec<String>,
}

/// The journal that all workloads write.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Journal>);

impl Shared {
    /// Notes an access that was over in the second `end`.
    pub(crate) fn note(&self, ask: Ask, outcome: Outcome, end: i64) {
        self.0.lock().unwrap().note(ask, outcome, end);
    }

    /// All of it; the next note begins another.
    pub(crate) fn take(&self) -> Journal {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    pub(crate) fn received(&self) -> i64 {
        self.0.lock().unwrap().received()
    }
}

impl Journal {
    pub(crate) fn note(&mut self, ask: Ask, outcome: Outcome, end: i64) {
        self.asked += 1;
        match outcome {
            Outcome::Received { version, value } => {
                let minute = ask.second / 60;
                if end / 60 == minute {
                    let of_token = (ask.token.clone(), minute);
                    *self.in_minute.entry(of_token).or_default() += 1;
                }
                let of_version = (ask.token.clone(), version);
                let known = self.values.entry(of_version).or_insert(value.clone());
                if *known != value {
                    self.wrong
                        .push(format!("{ask:?}: version {version} has two values"));
                }
                *self.received.entry((ask, version)).or_default() += 1;
            }
            Outcome::Lost => *self.maybe.entry(ask).or_default() += 1,
            Outcome::Refused(why) => {
                if !["429 QuotaExhausted", "503 VaultUnavailable"].contains(&why.as_str()) {
                    self.wrong.push(format!("{ask:?}: {why}"));
                }
                *self.refused.entry(why).or_default() += 1;
            }
            Outcome::NotAsked => *self.refused.entry("nobody there".to_owned()).or_default() += 1,
        }
    }

    pub(crate) fn received(&self) -> i64 {
        self.received.values().sum()
    }

    pub(crate) fn maybe(&self) -> i64 {
        self.maybe.values().sum()
    }
}
