//! Quotas, and what their limits were.

use std::collections::BTreeMap;

use bursar_crds::TokenQuota;
use bursar_testbed::Dice;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

/// What `jira` may be read, for good.
pub(crate) const OF_JIRA: i64 = 600;
/// What `slack` may be read in a minute.
pub(crate) const OF_SLACK: i64 = 700;

/// More than is read in the minute or two after all faults.
const ROOM: i64 = 50_000;

/// One quota of this test.
struct Limited {
    name: &'static str,
    /// What it is about, and its window.
    spec: fn() -> Value,
    /// How the vault describes its count: the kind of its subject, and whether it has a period.
    described: (&'static str, bool),
}

/// Two that never change, and two that do. Every token has two or more of them, and no two tokens
/// have the same.
const QUOTAS: [Limited; 4] = [
    Limited {
        name: "of-jira",
        spec: || json!({ "subject": { "tokenRef": { "name": "jira" } }, "window": lifetime() }),
        described: ("Token", false),
    },
    Limited {
        name: "of-slack",
        spec: || json!({ "subject": { "tokenRef": { "name": "slack" } }, "window": minute() }),
        described: ("Token", true),
    },
    Limited {
        name: "of-ana",
        spec: || json!({ "subject": { "userRef": { "name": "ana" } }, "window": lifetime() }),
        described: ("User", false),
    },
    Limited {
        name: "of-app",
        spec: || json!({ "subject": { "serviceAccountName": "app" }, "window": minute() }),
        described: ("ServiceAccount", true),
    },
];

fn lifetime() -> Value {
    json!({ "type": "Lifetime" })
}

fn minute() -> Value {
    json!({ "type": "Period", "period": "1m" })
}

/// What was done to a quota.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Created,
    Raised,
    Lowered,
    Deleted,
}

/// The quotas as they are, and the greatest limit that each ever had.
pub(crate) struct Limits {
    api: Api<TokenQuota>,
    greatest: BTreeMap<&'static str, i64>,
    last: BTreeMap<&'static str, i64>,
}

impl Limits {
    /// All of them, with enough for the beginning.
    pub(crate) async fn new(api: Api<TokenQuota>) -> Self {
        let mut limits = Self {
            api,
            greatest: BTreeMap::new(),
            last: BTreeMap::new(),
        };
        for (quota, limit) in QUOTAS.iter().zip([OF_JIRA, OF_SLACK, 500, 1_000]) {
            limits.apply(quota, limit).await;
        }
        limits
    }

    async fn apply(&mut self, quota: &Limited, limit: i64) {
        // Before it is: it may be in force before the answer is here.
        let greatest = self.greatest.entry(quota.name).or_default();
        *greatest = limit.max(*greatest);
        self.last.insert(quota.name, limit);
        let mut spec = (quota.spec)();
        spec["counter"] = "accesses".into();
        spec["limit"] = limit.into();
        let object = json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenQuota",
            "metadata": { "name": quota.name },
            "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        self.api
            .patch(quota.name, &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    /// Changes one of those that change; `used` is about what was used of it.
    pub(crate) async fn change(&mut self, dice: &mut Dice, used: i64) -> Change {
        let quota = &QUOTAS[2 + dice.below(2)];
        let is_there = self.api.get_opt(quota.name).await.unwrap().is_some();
        let last = self.last[quota.name];
        let change = match dice.below(6) {
            _ if !is_there => Change::Created,
            0 => Change::Deleted,
            1..=2 => Change::Lowered,
            _ => Change::Raised,
        };
        match change {
            Change::Deleted => {
                // It may be going already.
                let _ = self.api.delete(quota.name, &DeleteParams::default()).await;
            }
            Change::Lowered => {
                let limit = last - dice.between(1, 400).cast_signed();
                self.apply(quota, limit.max(0)).await;
            }
            Change::Created | Change::Raised => {
                let more = dice.between(1, 900).cast_signed();
                self.apply(quota, last.max(used) + more).await;
            }
        }
        change
    }

    /// Makes room for more; `used` is about what was used.
    pub(crate) async fn make_room(&mut self, used: i64) {
        for quota in &QUOTAS[2..] {
            let last = self.last[quota.name];
            self.apply(quota, last.max(used) + ROOM).await;
        }
    }

    /// The greatest limit that was ever asked for, of the count that the vault describes so.
    pub(crate) fn greatest(&self, description: &str) -> Option<i64> {
        let quota = QUOTAS.iter().find(|quota| {
            let (kind, has_period) = quota.described;
            let of = format!("accesses of {kind} ");
            description.starts_with(&of) && description.ends_with(" s") == has_period
        })?;
        self.greatest.get(quota.name).copied()
    }
}
