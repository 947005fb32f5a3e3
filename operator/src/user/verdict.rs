//! What a TokenUser's conditions come to say. Pure.

use bursar_crds::reasons::{ConditionStatus, ReadyReason, Reason, UsableReason};
use bursar_vault::{UserSpec, UserState};

use super::validate::email_taken;
use crate::controller::Progress;
use crate::object::{Said, Verdict};

/// For a user of whom the vault has nothing, and gets nothing for now.
pub(super) fn not_stored(not_onboarded: Said<ReadyReason>) -> Verdict {
    let usable = Said::new(
        UsableReason::Pending,
        "Not in the vault yet; Ready says why.",
    );
    Verdict {
        ready: not_onboarded,
        usable: Some(usable),
    }
}

/// For a user that the vault holds.
pub(super) fn stored(
    problem: Option<Said<ReadyReason>>,
    spec: &UserSpec,
    state: &UserState,
) -> Verdict {
    let problem = problem.or_else(|| state.email_taken.then(|| email_taken(None)));
    let ready = match problem {
        Some(problem) => problem,
        None => Said::new(
            ReadyReason::Reconciled,
            "The vault holds what the spec says.",
        ),
    };
    let usable = if spec.suspended {
        let message = "The user is suspended: no token is served. Set spec.suspended to false to \
                       lift that.";
        Said::new(UsableReason::UserSuspended, message)
    } else if spec.workloads.is_empty() {
        let message = "No service account may read the user's tokens, because spec.workloads of \
                       this TokenUser is empty: list those that may.";
        Said::new(UsableReason::NoWorkload, message)
    } else {
        Said::new(
            UsableReason::Active,
            "The listed workloads can read the user's tokens.",
        )
    };
    Verdict {
        ready,
        usable: Some(usable),
    }
}

/// How the attempt went, by what came of it.
pub(super) fn progress(verdict: &Verdict) -> Progress {
    match verdict.ready.reason {
        // Woken when that changes.
        ReadyReason::NamespaceNotOnboarded => Progress::Waiting(None),
        reason if reason.status() == ConditionStatus::True => Progress::Reconciled(None),
        _ => Progress::Refused(None),
    }
}

#[cfg(test)]
mod tests {
    use bursar_crds::reasons::UsableReason;
    use bursar_vault::{ServiceAccountName, UserName, UserSpec, UserState, UserUid, rows};
    use uuid::Uuid;

    use super::stored;

    fn usable(workloads: &[&str], suspended: bool) -> UsableReason {
        let workload = |name: &&str| ServiceAccountName::try_from(*name).unwrap();
        let spec = UserSpec {
            uid: UserUid::from(Uuid::nil()),
            name: UserName::try_from("ana").unwrap(),
            email: None,
            role: rows::Role::Member,
            suspended,
            workloads: workloads.iter().map(workload).collect(),
        };
        let state = UserState {
            email_taken: false,
            damaged: vec![],
        };
        stored(None, &spec, &state).usable.unwrap().reason
    }

    #[test]
    fn a_user_is_usable_only_with_a_workload_and_a_suspension_comes_first() {
        assert_eq!(usable(&["app"], false), UsableReason::Active);
        assert_eq!(usable(&[], false), UsableReason::NoWorkload);
        assert_eq!(usable(&["app"], true), UsableReason::UserSuspended);
        assert_eq!(usable(&[], true), UsableReason::UserSuspended);
    }
}
