//! `why`: one refused request, in sentences.

use std::io::Write;
use std::process::ExitCode;

use bursar_wire::people::{AccessRecord, is_decision_id};

use crate::error::CliError;
use crate::patience::Patience;
use crate::table::seconds;
use crate::vault::Vault;

/// The code whose reason is the names of quotas.
const QUOTA_EXHAUSTED: &str = "QuotaExhausted";

/// Whether it could be the id of a refusal.
pub(crate) fn check(decision_id: &str) -> Result<(), CliError> {
    if is_decision_id(decision_id) {
        return Ok(());
    }
    Err(CliError::Usage(
        "a decision_id is 32 digits and letters a to f, as a refusal has it",
    ))
}

pub(crate) async fn run(
    vault: &mut Vault,
    decision_id: &str,
    out: &mut dyn Write,
) -> Result<ExitCode, CliError> {
    let path = format!("denials/{decision_id}");
    let record: AccessRecord = vault.get(&path, Patience::reading()).await?;
    write!(out, "{}", sentences(&record, &vault.namespace))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn sentences(record: &AccessRecord, namespace: &str) -> String {
    let time = seconds(record.first_time);
    let account = &record.service_account_name;
    let pod = match &record.pod {
        Some(pod) => format!("pod {pod} (service account {account})"),
        None => format!("a pod of service account {account}"),
    };
    let did = match (&record.token, &record.user) {
        (Some(token), Some(user)) => format!("asked for token {token} of user {user}"),
        // A token is asked for with a purpose; counters are counted without one.
        (None, Some(user)) if record.purpose.is_empty() => format!("called about user {user}"),
        (None, Some(user)) => format!("asked for a token of user {user}"),
        (Some(token), None) => format!("asked for token {token}"),
        (None, None) if record.purpose.is_empty() => "called".to_owned(),
        (None, None) => "asked for a token".to_owned(),
    };
    let code = record.code.as_deref().unwrap_or("no code");
    let reason = record.reason.as_deref();
    let mut text = format!("At {time}, {pod} in {namespace} {did}.\n");
    if !record.app_name.is_empty() || !record.purpose.is_empty() {
        let (app, purpose) = (&record.app_name, &record.purpose);
        text += &match purpose.as_str() {
            "" => format!("It called itself \"{app}\" (a claim).\n"),
            _ => {
                format!("It called itself \"{app}\" and gave the purpose \"{purpose}\" (claims).\n")
            }
        };
    }
    text += &format!("It was answered {code}.");
    // Then the reason names quotas, as the broker has them.
    let is_exhausted = code == QUOTA_EXHAUSTED;
    if let Some(reason) = reason {
        let whose = if is_exhausted {
            "Its broker named"
        } else {
            "The vault's reason:"
        };
        text += &format!(" {whose} {reason}.");
    }
    text.push('\n');
    let why = reason.filter(|_| !is_exhausted).unwrap_or(code);
    text += &format!("What to do: {}\n", advice(why, record));
    text
}

/// What to do, by the vault's own reason, or else by the code that the caller got.
fn advice(why: &str, record: &AccessRecord) -> String {
    let user = record.user.as_deref().unwrap_or("USER");
    let token = record.token.as_deref().unwrap_or("TOKEN");
    let account = &record.service_account_name;
    match why {
        "NoSuchUser" => format!("create TokenUser {user}, or correct user_id in the request."),
        "UserSuspended" => {
            format!("set spec.suspended of TokenUser {user} to false, if she may be served again.")
        }
        "WorkloadNotListed" => {
            format!("list {account} in spec.workloads of TokenUser {user}, if it may act for her.")
        }
        "NoSuchToken" => format!(
            "create a StoredToken {token} for user {user}, or correct the name in the request."
        ),
        "NotAConsumer" => format!(
            "list {account} in spec.consumers of StoredToken {token}, if it may read that token."
        ),
        "PurposeNotListed" => format!(
            "list the purpose for {account} in spec.consumers of StoredToken {token}, or correct \
             it in the request."
        ),
        "IntegrityFailure" => {
            "find out who can write to the database: kubectl describe names the object.".to_owned()
        }
        "AllowedNow" => "nothing: what stood in the way has changed meanwhile.".to_owned(),
        "Forbidden" => format!(
            "check that TokenUser {user} exists, is not suspended and lists {account} in \
             spec.workloads; and that StoredToken {token} exists for that user and, if it has \
             spec.consumers, lists {account} there with this purpose."
        ),
        "TokenNotFound" => format!(
            "create a StoredToken of that name for user {user}, or correct the name in the request."
        ),
        "TokenHasNoValue" => {
            format!("kubectl describe storedtoken {token} says why its source gives no value.")
        }
        "TokenAmbiguous" => {
            "name one of the user's tokens in the request's field token.".to_owned()
        }
        "TokenRevoked" => format!(
            "put a new value into the source of StoredToken {token}; kubectl bursar audit --token \
             {token} --outcome Revoked says who revoked it, unless its spec did."
        ),
        "TokenExpired" => format!(
            "set a later spec.expirationTime in StoredToken {token}, with a new value if the \
             provider ended the old one."
        ),
        QUOTA_EXHAUSTED => {
            let quota = record.reason.as_deref().unwrap_or("the TokenQuota");
            format!(
                "wait until the period of {quota} ends, or raise the limit, without which a \
                 Lifetime quota stays used up: kubectl bursar quotas."
            )
        }
        "CounterNotFound" => format!(
            "apply a TokenQuota with this counter for user {user} or service account {account}, or \
             correct the counter in the request."
        ),
        "IdempotencyKeyReused" => {
            "make a new Idempotency-Key for each request; use it again only to repeat that one."
                .to_owned()
        }
        "Unauthenticated" => {
            "send this pod's own token, read again from BURSAR_TOKEN_FILE for each request."
                .to_owned()
        }
        "VaultUnavailable" => {
            "nothing, if it has passed; else see whether bursar-operator is ready and reaches its \
             database."
                .to_owned()
        }
        _ => "see docs/reference.md for the code.".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bursar_wire::people::AccessRecord;
    use uuid::Uuid;

    use super::sentences;

    pub(crate) fn refused() -> AccessRecord {
        let time = "2026-11-21T10:00:00Z".parse().unwrap();
        AccessRecord {
            recorded_time: time,
            count: 1,
            outcome: "Denied".to_owned(),
            user: Some("ana".to_owned()),
            token: Some("github".to_owned()),
            version: None,
            service_account_name: "app".to_owned(),
            pod: Some("app-2".to_owned()),
            app_name: "sync".to_owned(),
            purpose: "nightly".to_owned(),
            first_time: time,
            last_time: time,
            decision_id: Some("d".to_owned()),
            code: Some("Forbidden".to_owned()),
            reason: Some("WorkloadNotListed".to_owned()),
            person: None,
            chain_id: Uuid::nil(),
            record_no: 1,
        }
    }

    #[test]
    fn a_call_without_a_purpose_was_not_for_a_token() {
        for (code, advice) in [
            (
                "CounterNotFound",
                "apply a TokenQuota with this counter for user ana",
            ),
            (
                "IdempotencyKeyReused",
                "make a new Idempotency-Key for each request",
            ),
            ("QuotaExhausted", "raise the limit"),
        ] {
            let record = AccessRecord {
                token: None,
                purpose: String::new(),
                code: Some(code.to_owned()),
                reason: None,
                ..refused()
            };
            let text = sentences(&record, "team-a");
            assert!(
                text.contains("in team-a called about user ana.\n"),
                "{text}"
            );
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn a_used_up_quota_is_named() {
        let record = AccessRecord {
            code: Some("QuotaExhausted".to_owned()),
            reason: Some("TokenQuota daily".to_owned()),
            ..refused()
        };
        let text = sentences(&record, "team-a");
        assert!(
            text.contains("QuotaExhausted. Its broker named TokenQuota daily.\n"),
            "{text}"
        );
        assert!(
            text.contains("wait until the period of TokenQuota daily ends"),
            "{text}"
        );
    }

    #[test]
    fn a_refusal_is_told_in_sentences_with_what_to_do() {
        let text = sentences(&refused(), "team-a");
        for part in [
            "At 2026-11-21T10:00:00Z, pod app-2 (service account app) in team-a",
            "asked for token github of user ana.",
            "\"sync\"",
            "\"nightly\" (claims)",
            "answered Forbidden. The vault's reason: WorkloadNotListed.",
            "list app in spec.workloads of TokenUser ana",
        ] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}
