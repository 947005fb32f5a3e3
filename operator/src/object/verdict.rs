//! What the conditions of an object come to say. Pure.

use std::time::Duration;

use bursar_crds::conditions::{self, Condition, Summary};
use bursar_crds::names::{ONBOARDED_CLUSTER_ROLE, OPERATOR_NAMESPACE, OPERATOR_SERVICE_ACCOUNT};
use bursar_crds::reasons::{ConditionStatus, ConditionType, ReadyReason, Reason, UsableReason};
use bursar_crds::{StoredTokenStatus, TokenQuotaStatus, TokenUserStatus};
use jiff::Timestamp;
use serde::Serialize;

/// A reason, and the sentence that goes with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Said<R> {
    pub(crate) reason: R,
    pub(crate) message: String,
}

impl<R> Said<R> {
    pub(crate) fn new(reason: R, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What was found out about an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) ready: Said<ReadyReason>,
    /// `None`: nothing new, the condition stays as it is.
    pub(crate) usable: Option<Said<UsableReason>>,
}

/// The sentence for a namespace whose Secrets may not be read, when that is asked again every
/// `asked_every`.
pub(crate) fn not_onboarded(namespace: &str, asked_every: Duration) -> Said<ReadyReason> {
    let seconds = asked_every.as_secs();
    let message = format!(
        "Bursar may not read Secrets in this namespace, so nothing new is stored (what is stored \
         stays in force): a RoleBinding is missing here that gives ClusterRole \
         {ONBOARDED_CLUSTER_ROLE} to ServiceAccount {OPERATOR_NAMESPACE}/{OPERATOR_SERVICE_ACCOUNT}. \
         A new one is noticed within {seconds} seconds; the namespace's administrator creates it \
         with: kubectl create rolebinding bursar --namespace {namespace} --clusterrole \
         {ONBOARDED_CLUSTER_ROLE} --serviceaccount {OPERATOR_NAMESPACE}:{OPERATOR_SERVICE_ACCOUNT}"
    );
    Said::new(ReadyReason::NamespaceNotOnboarded, message)
}

/// What the status of every kind of ours begins with.
pub(crate) trait Status: Clone + Default + PartialEq + Serialize + Send + Sync {
    fn conditions(&mut self) -> &mut Vec<Condition>;
    fn set_summary(&mut self, summary: Summary);
    fn set_observed_generation(&mut self, generation: Option<i64>);
}

macro_rules! status {
    ($($name:ident),+) => {$(
        impl Status for $name {
            fn conditions(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }

            fn set_summary(&mut self, summary: Summary) {
                self.reason = Some(summary.reason);
                self.message = Some(summary.message);
            }

            fn set_observed_generation(&mut self, generation: Option<i64>) {
                self.observed_generation = generation;
            }
        }
    )+};
}
status!(TokenUserStatus, StoredTokenStatus, TokenQuotaStatus);

/// `status` with the verdict in it; equal to before if the verdict says nothing new.
pub(crate) fn with_verdict<S: Status>(
    mut status: S,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> S {
    let list = status.conditions();
    set(list, &verdict.ready, generation, now);
    match &verdict.usable {
        Some(usable) => set(list, usable, generation, now),
        // An object that nobody has looked at has its conditions from the CRD's default; after
        // a status that somebody emptied, there are none.
        None if conditions::find(list, ConditionType::Usable).is_none() => {
            let unknown = Said::new(UsableReason::Pending, "Not known yet; Ready says why.");
            set(list, &unknown, generation, now);
        }
        None => {}
    }
    let summary = conditions::summary(list);
    status.set_summary(summary);
    status.set_observed_generation(generation);
    status
}

fn set<R: Reason>(
    list: &mut Vec<Condition>,
    said: &Said<R>,
    generation: Option<i64>,
    now: Timestamp,
) {
    conditions::set(list, said.reason, said.message.as_str(), generation, now);
}

/// An event worth telling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct News {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// What is new in `after`: reasons that were not there before. What went well from the start is
/// no news, nor is a token without a value that never had one: `Ready` says why. A quota that only
/// warns does so here.
pub(crate) fn news(before: &[Condition], after: &[Condition]) -> Vec<News> {
    let types = [ConditionType::Ready, ConditionType::Usable];
    let news = types.into_iter().filter_map(|type_| {
        let now = conditions::find(after, type_)?;
        let then = conditions::find(before, type_);
        let is_new = then.is_none_or(|then| then.reason != now.reason);
        let status = |status: ConditionStatus| status.as_str();
        let was = |before: ConditionStatus| then.is_some_and(|then| then.status == status(before));
        let good = now.status == status(ConditionStatus::True)
            && now.reason != UsableReason::Exceeded.as_str();
        let told = is_new
            && now.status != status(ConditionStatus::Unknown)
            && if good {
                was(ConditionStatus::False)
            } else {
                now.reason != UsableReason::NoVersion.as_str() || was(ConditionStatus::True)
            };
        told.then(|| News {
            warning: !good && !is_deliberate(&now.reason),
            reason: now.reason.clone(),
            note: now.message.clone(),
        })
    });
    let mut news: Vec<News> = news.collect();
    // Both conditions may give the same reason.
    news.dedup_by(|a, b| a.reason == b.reason);
    news
}

fn is_deliberate(reason: &str) -> bool {
    let deliberate = [
        UsableReason::RevokedBySpec,
        UsableReason::RevokedByAPI,
        UsableReason::UserSuspended,
    ];
    deliberate.iter().any(|known| known.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar_crds::StoredTokenStatus;
    use bursar_crds::reasons::{ReadyReason, UsableReason};
    use jiff::Timestamp;

    use super::{Said, Verdict, news, not_onboarded, with_verdict};

    #[test]
    fn a_namespace_that_is_not_onboarded_is_told_which_binding_is_missing_and_how_soon_one_counts()
    {
        let said = not_onboarded("team", Duration::from_secs(30)).message;
        for words in [
            "ClusterRole bursar-onboarded to ServiceAccount bursar-system/bursar-operator",
            "within 30 seconds",
            "kubectl create rolebinding bursar --namespace team --clusterrole bursar-onboarded \
             --serviceaccount bursar-system:bursar-operator",
        ] {
            assert!(said.contains(words), "no {words:?} in {said:?}");
        }
    }

    fn verdict(ready: ReadyReason, usable: Option<UsableReason>) -> Verdict {
        let usable = usable.map(|usable| Said::new(usable, "u"));
        Verdict {
            ready: Said::new(ready, "r"),
            usable,
        }
    }

    fn after(before: &StoredTokenStatus, verdict: &Verdict, second: i64) -> StoredTokenStatus {
        let now = Timestamp::from_second(second).unwrap();
        with_verdict(before.clone(), verdict, Some(1), now)
    }

    #[test]
    fn the_same_verdict_later_changes_nothing() {
        let serving = verdict(ReadyReason::Reconciled, Some(UsableReason::Serving));
        let first = after(&StoredTokenStatus::default(), &serving, 1);
        assert_eq!(first.reason.as_deref(), Some("Serving"));
        assert_eq!(after(&first, &serving, 2), first);
    }

    #[test]
    fn what_is_not_known_to_have_changed_stays() {
        let serving = verdict(ReadyReason::Reconciled, Some(UsableReason::Serving));
        let first = after(&StoredTokenStatus::default(), &serving, 1);
        let away = after(&first, &verdict(ReadyReason::VaultUnavailable, None), 2);
        assert_eq!(away.reason.as_deref(), Some("VaultUnavailable"));
        assert_eq!(away.conditions[1], first.conditions[1]);
        let never_seen = after(
            &StoredTokenStatus::default(),
            &verdict(ReadyReason::VaultUnavailable, None),
            2,
        );
        assert_eq!(never_seen.conditions[1].status, "Unknown");
    }

    #[test]
    fn only_new_reasons_are_news_and_a_good_start_is_none() {
        let empty = StoredTokenStatus::default();
        let serving = verdict(ReadyReason::Reconciled, Some(UsableReason::Serving));
        let good = after(&empty, &serving, 1);
        assert_eq!(news(&empty.conditions, &good.conditions), []);

        let missing = verdict(ReadyReason::SourceNotFound, Some(UsableReason::Serving));
        let bad = after(&good, &missing, 2);
        let told = news(&good.conditions, &bad.conditions);
        assert_eq!((told.len(), told[0].warning), (1, true));
        assert_eq!(news(&bad.conditions, &bad.conditions), []);

        let mended = news(&bad.conditions, &good.conditions);
        assert_eq!((mended.len(), mended[0].warning), (1, false));
    }

    #[test]
    fn a_value_that_never_came_is_no_news_and_one_that_went_is_a_warning() {
        let empty = StoredTokenStatus::default();
        let none = verdict(ReadyReason::SourceNotFound, Some(UsableReason::NoVersion));
        let told = news(&empty.conditions, &after(&empty, &none, 1).conditions);
        assert_eq!((told.len(), told[0].reason.as_str()), (1, "SourceNotFound"));

        let serving = verdict(ReadyReason::SourceNotFound, Some(UsableReason::Serving));
        let good = after(&empty, &serving, 1);
        let told = news(&good.conditions, &after(&good, &none, 2).conditions);
        assert_eq!((told.len(), told[0].reason.as_str()), (1, "NoVersion"));
        assert!(told[0].warning);
    }

    #[test]
    fn a_missing_user_is_one_warning() {
        let missing = verdict(ReadyReason::UserNotFound, Some(UsableReason::UserNotFound));
        let empty = StoredTokenStatus::default();
        let told = news(&empty.conditions, &after(&empty, &missing, 1).conditions);
        assert_eq!((told.len(), told[0].warning), (1, true));
    }

    #[test]
    fn a_quota_that_only_warns_does_so_once() {
        let within = verdict(ReadyReason::Reconciled, Some(UsableReason::Within));
        let empty = StoredTokenStatus::default();
        let within = after(&empty, &within, 1);
        let exceeded = verdict(ReadyReason::Reconciled, Some(UsableReason::Exceeded));
        let exceeded = after(&within, &exceeded, 1);
        let told = news(&within.conditions, &exceeded.conditions);
        assert_eq!((told.len(), told[0].warning), (1, true));
        assert_eq!(told[0].reason, "Exceeded");
        assert_eq!(news(&exceeded.conditions, &exceeded.conditions), []);
        assert_eq!(news(&exceeded.conditions, &within.conditions), []);
    }

    #[test]
    fn a_deliberate_revocation_is_no_warning() {
        let serving = verdict(ReadyReason::Reconciled, Some(UsableReason::Serving));
        let good = after(&StoredTokenStatus::default(), &serving, 1);
        let revoked = verdict(ReadyReason::Reconciled, Some(UsableReason::RevokedBySpec));
        let told = news(&good.conditions, &after(&good, &revoked, 2).conditions);
        assert_eq!((told.len(), told[0].warning), (1, false));
    }
}
