//! What a TokenQuota's status comes to say. Pure.

use std::time::Duration;

use bursar_crds::conditions::whole_seconds;
use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{TokenQuota, TokenQuotaStatus};
use bursar_vault::rows::{AuthenticatedRow, Enforcement, QuotaRow, Window};
use bursar_vault::{DbTime, IntegrityFailure, QuotaSpec, QuotaState};
use jiff::Timestamp;

use super::used::in_steps;
use crate::object::{Said, Verdict};

/// Between two looks while brokers still hold what they were given before the quota was as strict
/// as it is: they give it back within moments, or it lapses with their lease. Also the least pause
/// before the end of a window, which the database's clock may see a little later than ours.
const SOON: Duration = Duration::from_secs(1);

/// For a quota of which the vault has nothing, and gets nothing for now.
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

/// For a quota that the vault holds.
pub(super) fn stored(
    not_onboarded: Option<Said<ReadyReason>>,
    spec: &QuotaSpec,
    state: &QuotaState,
) -> Verdict {
    let ready = not_onboarded.unwrap_or_else(|| {
        Said::new(
            ReadyReason::Reconciled,
            "The vault holds what the spec says.",
        )
    });
    Verdict {
        ready,
        usable: Some(usable(spec, state)),
    }
}

/// What the status tells beside the conditions.
pub(super) fn facts(
    quota: &TokenQuota,
    spec: &QuotaSpec,
    state: &QuotaState,
    now: Timestamp,
) -> TokenQuotaStatus {
    let before = no_facts(quota);
    let told = quota.status.as_ref();
    // After a change of the spec the time told is that of another limit, and holds for this one
    // only when it gives more.
    let same_spec = before.observed_generation == quota.metadata.generation;
    let enforced_from = told
        .and_then(|status| status.enforced_from_time.clone())
        .filter(|_| same_spec || state.eased)
        .unwrap_or_else(|| whole_seconds(now));
    TokenQuotaStatus {
        used: state.used.map(|used| in_steps(used, spec.limit)),
        window_end_time: window_end(state).map(whole_seconds),
        enforced_from_time: state.enforced.then_some(enforced_from),
        ..before
    }
}

/// The same for a quota that limits nobody: whom it is about alone.
pub(super) fn no_facts(quota: &TokenQuota) -> TokenQuotaStatus {
    TokenQuotaStatus {
        subject: Some(quota.spec.subject.to_string()),
        used: None,
        window_end_time: None,
        enforced_from_time: None,
        ..quota.status.clone().unwrap_or_default()
    }
}

/// The pause before the next look.
pub(super) fn next_look(state: &QuotaState, now: Timestamp, longest: Duration) -> Duration {
    if !state.enforced {
        return SOON;
    }
    let until_end = window_end(state)
        .map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
    until_end.map_or(longest, |pause| pause.min(longest).max(SOON))
}

fn window_end(state: &QuotaState) -> Option<Timestamp> {
    state.window_end_time.and_then(DbTime::timestamp)
}

// Sentences name no number but the limit: with another they would be another at each look.
fn usable(spec: &QuotaSpec, state: &QuotaState) -> Said<UsableReason> {
    let limit = spec.limit;
    if let Some(failure) = still_damaged(spec, state) {
        let message = format!(
            "Nothing is read in this namespace: {failure}. That of a TokenQuota that is Ready is \
             written anew at its next look; delete one that stays not Ready. Find out who can \
             write to the database."
        );
        return Said::new(UsableReason::IntegrityFailure, message);
    }
    match (state.used, spec.enforcement) {
        (Some(used), Enforcement::Enforce) if used >= limit => Said::new(
            UsableReason::Exhausted,
            format!("All {limit} are used, so more is refused: {}", relief(spec)),
        ),
        (Some(used), Enforcement::Warn) if used > limit => Said::new(
            UsableReason::Exceeded,
            format!("More than {limit} were used; spec.enforcement is Warn, so none is refused."),
        ),
        (Some(_), _) => Said::new(
            UsableReason::Within,
            format!("The limit of {limit} is not passed."),
        ),
        (None, _) => Said::new(
            UsableReason::Within,
            format!(
                "Each user may use {limit}, but for those with a TokenQuota of their own for the \
                 same counter and window. Who has used how much: kubectl bursar quotas."
            ),
        ),
    }
}

/// What ends it that a quota is used up.
fn relief(spec: &QuotaSpec) -> &'static str {
    match spec.window {
        Window::Lifetime => "raise spec.limit.",
        Window::Period(_) => "wait for status.windowEndTime, or raise spec.limit.",
    }
}

/// The row of another quota that is damaged; this quota's own was written anew, as was the list.
fn still_damaged<'a>(spec: &QuotaSpec, state: &'a QuotaState) -> Option<&'a IntegrityFailure> {
    let own = spec.id.to_string();
    let of_another =
        |failure: &&IntegrityFailure| failure.table == QuotaRow::TABLE && failure.row != own;
    state.damaged.iter().find(of_another)
}

#[cfg(test)]
mod tests;
