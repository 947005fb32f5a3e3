//! From a TokenQuota, and whom it is about, to what the vault is to hold. Pure.

use std::fmt::Display;
use std::num::NonZeroU32;

use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{Enforcement, Subject, TokenQuota};
use bursar_seal::TokenId;
use bursar_vault::{Counter, QuotaId, QuotaName, QuotaSpec, ServiceAccountName, UserUid, rows};
use kube::ResourceExt;
use uuid::Uuid;

use crate::failure::Failure;
use crate::object::{Said, Verdict};

/// Why the vault cannot hold it.
#[derive(Debug)]
pub(super) enum Invalid {
    /// A person has to mend something; the object says what.
    Refused(Verdict),
    /// No such metadata come from Kubernetes.
    ForeignMetadata,
}

/// What the vault is to hold; `found` is the UID of the user or token that the quota names.
pub(super) fn validate(
    quota: &TokenQuota,
    uid: Uuid,
    found: Option<Uuid>,
) -> Result<QuotaSpec, Invalid> {
    let spec = &quota.spec;
    let name = QuotaName::try_from(quota.name_any()).map_err(|_| Invalid::ForeignMetadata)?;
    let window = spec.window.seconds().map_err(undecodable)?;
    let counter = Counter::try_from(spec.counter.as_str())
        .map_err(|error| undecodable(format_args!("spec.counter: {error}")))?;
    if spec.limit < 0 {
        return Err(undecodable("spec.limit must not be negative"));
    }
    Ok(QuotaSpec {
        id: QuotaId::from(uid),
        name,
        subject: subject(&spec.subject, found)?,
        counter,
        limit: spec.limit,
        window: window
            .and_then(NonZeroU32::new)
            .map_or(rows::Window::Lifetime, rows::Window::Period),
        enforcement: match spec.enforcement {
            Enforcement::Enforce => rows::Enforcement::Enforce,
            Enforcement::Warn => rows::Enforcement::Warn,
        },
    })
}

fn subject(subject: &Subject, found: Option<Uuid>) -> Result<rows::Subject, Invalid> {
    if let Some(user) = &subject.user_ref {
        let uid = found.ok_or_else(|| {
            let (ready, usable) = (ReadyReason::UserNotFound, UsableReason::UserNotFound);
            not_found("TokenUser", &user.name, ready, usable)
        })?;
        Ok(rows::Subject::User(UserUid::from(uid)))
    } else if let Some(token) = &subject.token_ref {
        let uid = found.ok_or_else(|| {
            let (ready, usable) = (ReadyReason::TokenNotFound, UsableReason::TokenNotFound);
            not_found("StoredToken", &token.name, ready, usable)
        })?;
        Ok(rows::Subject::Token(TokenId::from(uid)))
    } else if let Some(account) = &subject.service_account_name {
        let name = ServiceAccountName::try_from(account.as_str()).map_err(|error| {
            undecodable(format_args!("spec.subject.serviceAccountName: {error}"))
        })?;
        Ok(rows::Subject::ServiceAccount(name))
    } else if subject.each.is_some() {
        Ok(rows::Subject::EachUser)
    } else {
        Err(undecodable("spec.subject names nobody"))
    }
}

fn not_found(kind: &str, name: &str, ready: ReadyReason, usable: UsableReason) -> Invalid {
    let message = format!(
        "{kind} {name} does not exist in this namespace, so this limits nobody: create the {kind}."
    );
    Invalid::Refused(Verdict {
        ready: Said::new(ready, message.as_str()),
        usable: Some(Said::new(usable, message)),
    })
}

/// The API server admits none such.
fn undecodable(what: impl Display) -> Invalid {
    let what = what.to_string();
    let message = format!("{}.", what.trim_end_matches('.'));
    Invalid::Refused(Verdict {
        ready: Said::new(ReadyReason::Undecodable, message),
        usable: None,
    })
}

impl Invalid {
    /// What to write on the object, or the failure that is none of its author's.
    pub(super) fn verdict(self) -> Result<Verdict, Failure> {
        match self {
            Self::Refused(verdict) => Ok(verdict),
            Self::ForeignMetadata => Err(Failure::ForeignMetadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use bursar_crds::TokenQuota;
    use bursar_crds::reasons::{ReadyReason, UsableReason};
    use bursar_vault::{QuotaSpec, rows};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::{Invalid, validate};
    use crate::object::Verdict;

    const FOUND: Uuid = Uuid::from_u128(7);

    fn quota(change: Value) -> TokenQuota {
        let mut spec = json!({
            "subject": { "each": "User" },
            "counter": "accesses",
            "limit": 10,
            "window": { "type": "Period", "period": "1h30m" },
        });
        let (fields, change) = (spec.as_object_mut().unwrap(), change.as_object().unwrap());
        fields.extend(change.clone());
        TokenQuota::new("limit", serde_json::from_value(spec).unwrap())
    }

    fn valid(change: Value, found: Option<Uuid>) -> QuotaSpec {
        validate(&quota(change), Uuid::from_u128(1), found).unwrap()
    }

    fn refused(change: Value) -> Verdict {
        match validate(&quota(change), Uuid::nil(), None) {
            Err(Invalid::Refused(verdict)) => verdict,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn the_spec_goes_to_the_vault_with_its_window_in_seconds() {
        let spec = valid(json!({}), None);
        assert_eq!(spec.id, Uuid::from_u128(1).into());
        assert_eq!((spec.name.as_str(), spec.limit), ("limit", 10));
        assert_eq!(spec.counter.as_str(), "accesses");
        assert_eq!(spec.window, rows::Window::Period(5400.try_into().unwrap()));
        assert_eq!(spec.enforcement, rows::Enforcement::Enforce);
        let warn = json!({ "enforcement": "Warn", "window": { "type": "Lifetime" } });
        let spec = valid(warn, None);
        assert_eq!(spec.enforcement, rows::Enforcement::Warn);
        assert_eq!(spec.window, rows::Window::Lifetime);
    }

    #[test]
    fn a_user_or_token_is_known_to_the_vault_by_its_uid_and_a_service_account_by_its_name() {
        use rows::Subject::{EachUser, ServiceAccount, Token, User};
        for (subject, expected) in [
            (json!({ "userRef": { "name": "ana" } }), User(FOUND.into())),
            (
                json!({ "tokenRef": { "name": "github" } }),
                Token(FOUND.into()),
            ),
            (
                json!({ "serviceAccountName": "app" }),
                ServiceAccount("app".parse().unwrap()),
            ),
            (json!({ "each": "User" }), EachUser),
        ] {
            let spec = valid(json!({ "subject": subject }), Some(FOUND));
            assert_eq!(spec.subject, expected);
        }
    }

    #[test]
    fn a_user_or_token_that_is_not_there_is_named() {
        for (subject, name, ready, usable) in [
            (
                json!({ "userRef": { "name": "ana" } }),
                "TokenUser ana",
                ReadyReason::UserNotFound,
                UsableReason::UserNotFound,
            ),
            (
                json!({ "tokenRef": { "name": "github" } }),
                "StoredToken github",
                ReadyReason::TokenNotFound,
                UsableReason::TokenNotFound,
            ),
        ] {
            let verdict = refused(json!({ "subject": subject }));
            assert_eq!(verdict.ready.reason, ready);
            assert_eq!(verdict.usable.unwrap().reason, usable);
            assert!(verdict.ready.message.contains(name));
        }
    }

    #[test]
    fn what_only_another_release_would_admit_is_told_by_its_field_and_not_quoted() {
        for (change, field) in [
            (json!({ "limit": -1 }), "spec.limit"),
            (json!({ "counter": "planted counter" }), "spec.counter: "),
            (json!({ "subject": {} }), "spec.subject "),
            (
                json!({ "subject": { "serviceAccountName": "planted name" } }),
                "spec.subject.serviceAccountName: ",
            ),
            (
                json!({ "window": { "type": "Period", "period": "planted" } }),
                "spec.window.period: ",
            ),
            (json!({ "window": { "type": "Period" } }), "spec.window: "),
        ] {
            let ready = refused(change).ready;
            assert_eq!(ready.reason, ReadyReason::Undecodable);
            let message = ready.message;
            assert!(message.starts_with(field), "{message}");
            assert!(!message.contains("planted") && !message.ends_with(".."));
        }
    }
}
