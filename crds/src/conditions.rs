//! Setting conditions, and reading them as one word.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::reasons::{ConditionStatus, ConditionType, ReadyReason, Reason, UsableReason};
use crate::syntax::{MAX_MESSAGE, MAX_REASON};

/// What a fresh object says until a controller has looked at it.
const PENDING_MESSAGE: &str =
    "No controller has looked at this object yet; if this stays, check that bursar-operator runs.";

/// The condition of that type, if it was ever set.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// Sets the condition `reason` belongs to, as observed at `generation` of the object.
///
/// `lastTransitionTime` becomes `now` only when the status changes, as the API conventions ask; so
/// setting what is already there changes nothing, and a writer can compare before it writes.
pub fn set<R: Reason>(
    conditions: &mut Vec<Condition>,
    reason: R,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let status = reason.status().as_str();
    let old = conditions
        .iter()
        .position(|c| c.type_ == R::TYPE.as_str())
        .map(|i| conditions.remove(i));
    let last_transition_time = match old {
        Some(old) if old.status == status => old.last_transition_time,
        _ => whole_seconds(now),
    };
    conditions.push(Condition {
        type_: R::TYPE.to_string(),
        status: status.into(),
        reason: reason.to_string(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time,
    });
    // A fixed order, so that equal conditions are equal lists.
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// What the columns REASON and MESSAGE show, kept in `status` because a column cannot choose between
/// two conditions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// The reason of one of the conditions.
    pub reason: String,
    /// The sentence that goes with it.
    pub message: String,
}

/// The most telling of the conditions.
///
/// It is `Usable`, which says what a reader of the token meets; but while `Ready` is not true and
/// nothing deliberate stands in the way, it is `Ready`, which says what to mend first. A
/// revocation sends people to the source for a new value: if the source has one that is refused, that
/// is what to mend.
pub fn summary(conditions: &[Condition]) -> Summary {
    let usable = find(conditions, ConditionType::Usable);
    let ready = find(conditions, ConditionType::Ready);
    let unfinished = [
        UsableReason::NoVersion,
        UsableReason::NoReader,
        UsableReason::NoWorkload,
        UsableReason::UserNotFound,
        UsableReason::TokenNotFound,
        UsableReason::UserReplaced,
    ];
    let revoked = [UsableReason::RevokedBySpec, UsableReason::RevokedByAPI];
    let value_refused = ready.is_some_and(|c| c.reason == ReadyReason::RevokedValueReused.as_str());
    let deliberate = |c: &&Condition| {
        c.status == ConditionStatus::False.as_str()
            && !unfinished.iter().any(|reason| reason.as_str() == c.reason)
            && !(value_refused && revoked.iter().any(|reason| reason.as_str() == c.reason))
    };
    let failed = |c: &&Condition| c.status != ConditionStatus::True.as_str();
    usable
        .filter(deliberate)
        .or(ready.filter(failed))
        .or(usable)
        .map_or_else(pending_summary, |c| Summary {
            reason: c.reason.clone(),
            message: c.message.clone(),
        })
}

/// A time as status holds it. Kubernetes writes whole seconds, so what is compared with a status
/// that was read back must have them too.
pub fn whole_seconds(time: Timestamp) -> Time {
    let nanos = i64::from(time.subsec_nanosecond());
    Time(time - jiff::SignedDuration::from_nanos(nanos))
}

/// The status every object starts with, so that "no condition yet" never reads as ready.
pub(crate) fn pending_status() -> Value {
    let Summary { reason, message } = pending_summary();
    json!({
        "reason": reason,
        "message": message,
        "conditions": [
            pending_condition(ReadyReason::Pending),
            pending_condition(UsableReason::Pending),
        ],
    })
}

fn pending_summary() -> Summary {
    Summary {
        reason: ReadyReason::Pending.to_string(),
        message: PENDING_MESSAGE.to_owned(),
    }
}

fn pending_condition<R: Reason>(pending: R) -> Value {
    json!({
        "type": R::TYPE.as_str(),
        "status": pending.status().as_str(),
        "reason": pending.as_str(),
        "message": PENDING_MESSAGE,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    })
}

/// The schema of `status.conditions`: Kubernetes' own condition, with its documented bounds.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Ready: the spec is realised. Usable: a read would succeed now.",
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "description": "Ready or Usable.",
                    "type": "string",
                    "maxLength": 316,
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "description": "The metadata.generation this was said of.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "When status last changed.",
                    "type": "string",
                    "format": "date-time",
                },
                "reason": {
                    "description": "Why, as one CamelCase word a program can match.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_REASON,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, and what to do, for a person.",
                    "type": "string",
                    "maxLength": MAX_MESSAGE,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn with(ready: ReadyReason, usable: UsableReason) -> Vec<Condition> {
        let mut conditions = vec![];
        set(&mut conditions, usable, "usable", Some(1), at(0));
        set(&mut conditions, ready, "ready", Some(1), at(0));
        conditions
    }

    #[test]
    fn setting_what_is_there_changes_nothing() {
        let mut conditions = with(ReadyReason::Reconciled, UsableReason::Serving);
        let before = conditions.clone();
        set(
            &mut conditions,
            UsableReason::Serving,
            "usable",
            Some(1),
            at(9),
        );
        set(
            &mut conditions,
            ReadyReason::Reconciled,
            "ready",
            Some(1),
            at(9),
        );
        assert_eq!(conditions, before);
    }

    #[test]
    fn a_new_reason_of_the_same_status_keeps_the_transition_time() {
        let mut conditions = with(ReadyReason::SourceNotFound, UsableReason::NoVersion);
        set(
            &mut conditions,
            ReadyReason::SourceEmpty,
            "m",
            Some(2),
            at(9),
        );
        let ready = find(&conditions, ConditionType::Ready).unwrap();
        assert_eq!(ready.reason, "SourceEmpty");
        assert_eq!(ready.message, "m");
        assert_eq!(ready.observed_generation, Some(2));
        assert_eq!(ready.last_transition_time, Time(at(0)));
    }

    #[test]
    fn a_new_status_moves_the_transition_time_in_whole_seconds() {
        let mut conditions = with(ReadyReason::SourceNotFound, UsableReason::NoVersion);
        let now = Timestamp::new(9, 999_999_999).unwrap();
        set(&mut conditions, ReadyReason::Reconciled, "", Some(1), now);
        let ready = find(&conditions, ConditionType::Ready).unwrap();
        assert_eq!(ready.last_transition_time, Time(at(9)));
    }

    #[test]
    fn the_summary_is_the_reason_a_reader_needs_with_its_own_sentence() {
        use {ReadyReason as R, UsableReason as U};
        for (ready, usable, word, of) in [
            (R::Reconciled, U::Serving, "Serving", "usable"),
            (R::Reconciled, U::RevokedBySpec, "RevokedBySpec", "usable"),
            (R::Reconciled, U::RevokedByAPI, "RevokedByAPI", "usable"),
            (R::SourceNotFound, U::Serving, "SourceNotFound", "ready"),
            (R::SourceNotFound, U::NoVersion, "SourceNotFound", "ready"),
            (R::SourceNotFound, U::NoReader, "SourceNotFound", "ready"),
            (R::Reconciled, U::NoReader, "NoReader", "usable"),
            (R::EmailTaken, U::NoWorkload, "EmailTaken", "ready"),
            (R::Reconciled, U::NoWorkload, "NoWorkload", "usable"),
            (
                R::SourceNotFound,
                U::RevokedBySpec,
                "RevokedBySpec",
                "usable",
            ),
            (
                R::RevokedValueReused,
                U::RevokedBySpec,
                "RevokedValueReused",
                "ready",
            ),
            (
                R::RevokedValueReused,
                U::RevokedByAPI,
                "RevokedValueReused",
                "ready",
            ),
            (
                R::RevokedValueReused,
                U::UserReplaced,
                "RevokedValueReused",
                "ready",
            ),
            (
                R::RevokedValueReused,
                U::UserSuspended,
                "UserSuspended",
                "usable",
            ),
            (
                R::SourceNotFound,
                U::UserReplaced,
                "SourceNotFound",
                "ready",
            ),
            (R::Reconciled, U::UserReplaced, "UserReplaced", "usable"),
            (R::Reconciled, U::Exhausted, "Exhausted", "usable"),
            (R::TokenNotFound, U::TokenNotFound, "TokenNotFound", "ready"),
            (R::Pending, U::Pending, "Pending", "ready"),
        ] {
            let Summary { reason, message } = summary(&with(ready, usable));
            assert_eq!((reason.as_str(), message.as_str()), (word, of));
        }
        assert_eq!(summary(&[]), pending_summary());
    }
}
