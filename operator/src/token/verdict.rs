//! What a StoredToken's status comes to say. Pure.

use std::time::Duration;

use bursar_crds::conditions::whole_seconds;
use bursar_crds::reasons::{ConditionStatus, ReadyReason, Reason, UsableReason};
use bursar_crds::{Draining, StoredToken, StoredTokenStatus};
use bursar_seal::TokenVersion;
use bursar_vault::{DbTime, Drain, RefusedValue, Serving, TokenState};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::beside::Beside;
use super::readers::Readers;
use super::validate::{SourceValue, Valid};
use crate::controller::Progress;
use crate::object::{Said, Verdict};

/// An expiry farther off is looked at again on the way.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two looks while brokers have yet to confirm, which most do within a moment.
const DRAINING_PAUSE: Duration = Duration::from_secs(1);

/// For a token of which the vault has nothing, and gets nothing for now.
pub(super) fn not_stored(not_onboarded: Said<ReadyReason>) -> Verdict {
    let usable = Said::new(
        UsableReason::NoVersion,
        "No value was stored yet; Ready says why.",
    );
    Verdict {
        ready: not_onboarded,
        usable: Some(usable),
    }
}

/// What the status tells beside the conditions.
pub(super) fn facts(
    before: Option<&StoredTokenStatus>,
    valid: &Valid,
    state: &TokenState,
    beside: &Beside,
) -> StoredTokenStatus {
    let mut status = before.cloned().unwrap_or_default();
    status.version = state.newest_version.map(i64::from);
    status.version_time = state.version_time.map(whole_seconds);
    // Without a version for the present user, the newest one is still the former user's.
    if state.serving != Serving::NoVersion {
        status.user_uid = Some(valid.spec.user_uid.to_string());
    }
    status.draining = draining(&beside.drain);
    status.taken_back_time = taken_back(&beside.drain).map(MicroTime);
    status
}

/// When the last of it was.
fn taken_back(drain: &Drain) -> Option<Timestamp> {
    drain.taken_back_time.and_then(DbTime::timestamp)
}

/// What is told while brokers have yet to confirm.
fn draining(drain: &Drain) -> Option<Draining> {
    let certain = drain.certain_time.and_then(DbTime::timestamp)?;
    // Not before it is certain.
    let certain = certain + SignedDuration::from_nanos(999_999_999);
    (!drain.is_complete()).then_some(Draining {
        brokers: drain.brokers_open,
        certain_time: whole_seconds(certain),
    })
}

/// That no broker holds any more what was taken back.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Receipt {
    /// Of what was taken back until then. There is one receipt for each such time.
    pub(super) time: Timestamp,
    /// Who gave it back.
    pub(super) note: String,
}

/// What is told once, when the last of those that held something has confirmed or lapsed: perhaps
/// before anybody looked, since most confirm within a moment.
pub(super) fn receipt(before: Option<&StoredTokenStatus>, drain: &Drain) -> Option<Receipt> {
    let time = taken_back(drain)?;
    let told = before.and_then(|status| status.taken_back_time.as_ref());
    let is_news = told.is_none_or(|MicroTime(told)| *told < time);
    let was_draining = before.is_some_and(|status| status.draining.is_some());
    let ended = drain.brokers_confirmed + drain.brokers_lapsed;
    if !(is_news || was_draining) || !drain.is_complete() || ended == 0 {
        // Where none has ended, nobody held it, or what was taken back was given again.
        return None;
    }
    let lapsed = match drain.brokers_lapsed {
        0 => String::new(),
        lapsed => format!(
            " {lapsed} never did: what they were granted has ended, and what they did not account \
             for is recorded as unaccounted for."
        ),
    };
    let last_served = drain.last_served_time.and_then(DbTime::timestamp);
    let last_served = last_served.map_or_else(
        || "No access to it around that time is on record.".to_owned(),
        |time| format!("The last access to it on record was at {}.", text(time)),
    );
    let note = format!(
        "No broker holds what was taken back: {} confirmed.{lapsed} {last_served}",
        brokers(drain.brokers_confirmed)
    );
    Some(Receipt { time, note })
}

fn brokers(count: i64) -> String {
    match count {
        1 => "1 broker".to_owned(),
        count => format!("{count} brokers"),
    }
}

fn text(time: Timestamp) -> String {
    let Time(time) = whole_seconds(time);
    time.to_string()
}

/// For a token that the vault holds.
pub(super) fn stored(
    token: &StoredToken,
    valid: &Valid,
    state: &TokenState,
    beside: &Beside,
) -> Verdict {
    let ready = match (&valid.source, state.refused) {
        (SourceValue::Unavailable(problem), _) => problem.clone(),
        // The source still has what was just revoked: that is the revocation itself, not a value
        // that somebody brought back.
        (_, Some(RefusedValue::RevokedValueReused { token, version }))
            if token == valid.spec.id && Some(version) == state.newest_version =>
        {
            reconciled()
        }
        (_, Some(RefusedValue::RevokedValueReused { .. })) => Said::new(
            ReadyReason::RevokedValueReused,
            "The source holds a value that was revoked before, so it is not stored: put a new \
             value there.",
        ),
        (_, Some(RefusedValue::VersionsExhausted)) => Said::new(
            ReadyReason::VaultUnavailable,
            "No version number is left above the newest one: delete this object and create it \
             anew.",
        ),
        (_, None) => reconciled(),
    };
    Verdict {
        ready,
        usable: Some(usable(token, valid, state, beside)),
    }
}

/// How the attempt went, by what came of it. Whatever that is, a served token is looked at again
/// when it expires; what else keeps a token from being served ends by a change, and changes are
/// heard of.
pub(super) fn progress(
    verdict: &Verdict,
    state: &TokenState,
    beside: &Beside,
    onboarded: bool,
) -> Progress {
    let expires = state.expires_in.map(|pause| pause.min(LONGEST_PAUSE));
    let drains = (!beside.drain.is_complete()).then_some(DRAINING_PAUSE);
    let again = expires.into_iter().chain(drains).min();
    if !onboarded {
        // Woken when the namespace is.
        Progress::Waiting(again)
    } else if verdict.ready.reason.status() == ConditionStatus::True {
        Progress::Reconciled(again)
    } else {
        Progress::Refused(again)
    }
}

fn reconciled() -> Said<ReadyReason> {
    Said::new(
        ReadyReason::Reconciled,
        "The vault holds what the spec says.",
    )
}

fn usable(
    token: &StoredToken,
    valid: &Valid,
    state: &TokenState,
    beside: &Beside,
) -> Said<UsableReason> {
    let version = state.newest_version.map_or(0, |version| version.get());
    let served_user = token
        .status
        .as_ref()
        .and_then(|status| status.user_uid.as_deref());
    let is_replaced = served_user.is_some_and(|uid| uid != valid.spec.user_uid.to_string());
    let (reason, mut message) = match state.serving {
        Serving::Serving => {
            let through = state.through_version.max(state.api_through_version);
            served(version, through, &valid.readers, beside)
        }
        Serving::NoVersion if is_replaced && state.newest_version.is_some() => (
            UsableReason::UserReplaced,
            format!(
                "Version {version} belongs to an earlier TokenUser of this name, and is served to \
                 nobody; a value for the present one is stored as soon as the source has it."
            ),
        ),
        Serving::NoVersion => (UsableReason::NoVersion, no_version(state)),
        Serving::RevokedBySpec => {
            let through = state.through_version.map_or(0, |version| version.get());
            let message = format!(
                "All versions up to {through} are revoked by spec.revocation.throughVersion; a \
                 new value at the source makes a new version."
            );
            (UsableReason::RevokedBySpec, message)
        }
        Serving::RevokedByAPI => {
            let through = state.api_through_version.map_or(0, |version| version.get());
            let message = format!(
                "A person revoked all versions up to {through} beside this spec (kubectl bursar \
                 audit --outcome Revoked says who); a new value at the source makes a new version."
            );
            (UsableReason::RevokedByAPI, message)
        }
        Serving::Expired => (
            UsableReason::Expired,
            "spec.expirationTime has passed: set a later one, or remove it.".to_owned(),
        ),
        Serving::UserSuspended => (
            UsableReason::UserSuspended,
            "The token's user is suspended: set suspended to false in its TokenUser to lift that."
                .to_owned(),
        ),
        Serving::IntegrityFailure => (
            UsableReason::IntegrityFailure,
            format!(
                "Version {version} in the database is not what the vault wrote, so it is served \
                 to nobody: find out who can write to the database. A new value at the source \
                 makes a new version."
            ),
        ),
    };
    if let Some(Draining { certain_time, .. }) = draining(&beside.drain) {
        let some = brokers(beside.drain.brokers_open);
        let have = if beside.drain.brokers_open == 1 {
            "has"
        } else {
            "have"
        };
        let certain = text(certain_time.0);
        message += &format!(
            " {some} {have} yet to confirm that they hold nothing of what was taken back; it is \
             certain by {certain}."
        );
    }
    Said::new(reason, message)
}

/// The vault would serve it; whether to anybody is for the lists of both objects to say.
fn served(
    version: u32,
    through: Option<TokenVersion>,
    readers: &Readers,
    beside: &Beside,
) -> (UsableReason, String) {
    let revoked = through.map_or_else(String::new, |through| {
        format!("; versions up to {through} are revoked")
    });
    let served = format!("Version {version} is served to those who may read it{revoked}.");
    match (readers, &beside.exhausted) {
        (Readers::Nobody(why), _) => (UsableReason::NoReader, why.clone()),
        (_, Some(quota)) => (
            UsableReason::Exhausted,
            format!(
                "TokenQuota {quota}, which all who may read this token share, is used up, so more \
                 is refused: wait until its window ends, or raise its spec.limit."
            ),
        ),
        (Readers::AllListed, None) => (UsableReason::Serving, served),
        (Readers::SomeListed(but_not), None) => {
            (UsableReason::Serving, format!("{served} {but_not}"))
        }
    }
}

fn no_version(state: &TokenState) -> String {
    match (state.refused, state.newest_version) {
        (Some(RefusedValue::RevokedValueReused { .. }), _) => {
            "The value in the source is a revoked one, so it is served to nobody: put a new value \
             there."
                .to_owned()
        }
        // Its value was revoked elsewhere, or the database lost who it was for.
        (_, Some(version)) => {
            format!("Version {version} is dead and no new one was stored; Ready says why.")
        }
        (_, None) => "No value was stored yet; Ready says why.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
