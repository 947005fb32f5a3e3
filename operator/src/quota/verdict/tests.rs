use std::time::Duration;

use bursar_crds::TokenQuota;
use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::{DbTime, QuotaSpec, QuotaState};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use uuid::Uuid;

use super::{facts, next_look, stored};
use crate::object::with_verdict;

const LONGEST: Duration = Duration::from_secs(30);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn time(second: i64) -> Option<Time> {
    Some(Time(at(second)))
}

fn spec(limit: i64, enforcement: Enforcement) -> QuotaSpec {
    QuotaSpec {
        id: Uuid::from_u128(1).into(),
        name: "limit".parse().unwrap(),
        subject: Subject::ServiceAccount("app".parse().unwrap()),
        counter: "accesses".parse().unwrap(),
        limit,
        window: Window::Lifetime,
        enforcement,
    }
}

fn state(used: Option<i64>) -> QuotaState {
    QuotaState {
        used,
        window_end_time: None,
        enforced: true,
        eased: false,
        damaged: vec![],
    }
}

fn usable(used: Option<i64>, limit: i64, enforcement: Enforcement) -> UsableReason {
    let verdict = stored(None, &spec(limit, enforcement), &state(used));
    assert_eq!(verdict.ready.reason, ReadyReason::Reconciled);
    verdict.usable.unwrap().reason
}

#[test]
fn an_enforced_quota_is_exhausted_at_its_limit_and_one_that_warns_is_exceeded_beyond_it() {
    use Enforcement::{Enforce, Warn};
    use UsableReason::{Exceeded, Exhausted, Within};
    for (used, limit, enforced, warned) in [
        (0, 10, Within, Within),
        (9, 10, Within, Within),
        (10, 10, Exhausted, Within),
        (11, 10, Exhausted, Exceeded),
        (0, 0, Exhausted, Within),
        (1, 0, Exhausted, Exceeded),
    ] {
        assert_eq!(usable(Some(used), limit, Enforce), enforced, "{used}");
        assert_eq!(usable(Some(used), limit, Warn), warned, "{used}");
    }
}

#[test]
fn a_default_for_each_user_is_never_exhausted_itself() {
    assert_eq!(usable(None, 0, Enforcement::Enforce), UsableReason::Within);
}

#[test]
fn the_sentence_stays_while_the_reason_does() {
    let spec = spec(100, Enforcement::Enforce);
    let said = |used| stored(None, &spec, &state(Some(used)));
    assert_eq!(said(1), said(99));
    assert_eq!(said(100), said(170));
    assert_ne!(said(99), said(100));
}

/// A quota at generation 2 whose status was written for `observed`, enforced from second 100.
fn quota(observed: i64) -> TokenQuota {
    let mut quota: TokenQuota = serde_json::from_value(json!({
        "apiVersion": "bursar.dev/v1alpha1",
        "kind": "TokenQuota",
        "metadata": { "name": "limit", "generation": 2 },
        "spec": {
            "subject": { "serviceAccountName": "app" },
            "counter": "accesses",
            "limit": 10,
            "window": { "type": "Lifetime" },
        },
    }))
    .unwrap();
    quota.status = Some(bursar_crds::TokenQuotaStatus {
        observed_generation: Some(observed),
        enforced_from_time: time(100),
        ..Default::default()
    });
    quota
}

#[test]
fn the_time_of_enforcement_is_that_of_the_strictest_spec_since() {
    let spec = spec(10, Enforcement::Enforce);
    let told = |quota: &TokenQuota, enforced, eased| {
        let state = QuotaState {
            enforced,
            eased,
            ..state(Some(0))
        };
        facts(quota, &spec, &state, at(200)).enforced_from_time
    };
    assert_eq!(told(&quota(2), true, false), time(100), "nothing changed");
    assert_eq!(told(&quota(1), true, true), time(100), "it gives more");
    assert_eq!(told(&quota(1), true, false), time(200), "it gives less");
    assert_eq!(told(&quota(2), false, false), None, "older grants are out");
    let mut first = quota(1);
    first.status = None;
    assert_eq!(told(&first, true, false), time(200), "it is new");
}

#[test]
fn use_within_a_step_changes_nothing_in_the_status() {
    let spec = spec(1000, Enforcement::Enforce);
    let told = |quota: &TokenQuota, used, second| {
        let state = state(Some(used));
        let verdict = stored(None, &spec, &state);
        let status = facts(quota, &spec, &state, at(second));
        with_verdict(status, &verdict, quota.metadata.generation, at(second))
    };
    let mut quota = quota(1);
    let first = told(&quota, 100, 200);
    quota.status = Some(first.clone());
    assert_eq!(told(&quota, 199, 300), first);
    assert_eq!(told(&quota, 200, 300).used, Some(200));
    assert_eq!(first.subject.as_deref(), Some("serviceaccount/app"));
}

#[test]
fn the_next_look_is_at_the_end_of_the_window_and_never_far_off() {
    let pause = |end: Option<i64>, enforced| {
        let state = QuotaState {
            window_end_time: end.map(|second| DbTime::from(at(second))),
            enforced,
            ..state(Some(0))
        };
        next_look(&state, at(1000), LONGEST).as_secs()
    };
    assert_eq!(pause(None, true), 30);
    assert_eq!(pause(Some(5000), true), 30);
    assert_eq!(pause(Some(1012), true), 12);
    assert_eq!(pause(Some(1000), true), 1, "not at once, again and again");
    assert_eq!(pause(Some(900), true), 1);
    assert_eq!(pause(Some(5000), false), 1);
}
