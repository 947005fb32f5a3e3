//! What a TokenUser's conditions come to say. Pure.

use bursar_crds::reasons::{ConditionStatus, ReadyReason, Reason, UsableReason};
use bursar_vault::{UserSpec, UserState};

use super::validate::email_taken;
use crate::controller::Progress;
use crate::object::{Said, Verdict, not_onboarded};

/// For a user of whom the vault has nothing, and gets nothing for now.
pub(super) fn not_stored(namespace: &str) -> Verdict {
    let usable = Said::new(
        UsableReason::Pending,
        "Not in the vault yet; Ready says why.",
    );
    Verdict {
        ready: not_onboarded(namespace),
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
        ReadyReason::NamespaceNotOnboarded => Progress::Waiting,
        reason if reason.status() == ConditionStatus::True => Progress::Reconciled(None),
        _ => Progress::Refused,
    }
}
