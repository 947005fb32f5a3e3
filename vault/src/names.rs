//! The words that users, tokens and workloads are known by. Each type holds
//! only what its rule allows, so that nothing behind the edge checks again.

use std::fmt;

use uuid::Uuid;

/// Text that is not a name of its kind. The text itself is not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a {kind} is {rule}")]
pub struct NameError {
    /// What was expected.
    pub kind: &'static str,
    /// What is allowed there.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                let allowed: fn(&str) -> bool = $allowed;
                if allowed(&text) {
                    Ok(Self(text))
                } else {
                    Err(NameError { kind: $kind, rule: $rule })
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

const LABEL: &str = "at most 63 lower case letters, digits and '-', beginning and ending with a \
                     letter or digit (RFC 1123)";
const SUBDOMAIN: &str = "at most 253 lower case letters, digits, '-' and '.', each part beginning \
                         and ending with a letter or digit (RFC 1123)";
const CLAIM: &str = "1 to 64 letters, digits, spaces and any of . _ : / @ -, beginning with a \
                     letter or digit";
const PERSON: &str = "1 to 128 letters, digits, spaces and any of . _ : / @ = , + # -, beginning \
                      with a letter or digit";
const COUNTER: &str = "1 to 63 letters and digits, beginning with a lower case letter";
const IDEMPOTENCY_KEY: &str = "1 to 64 letters, digits and any of . _ : -";
const UID: &str = "1 to 64 letters, digits and '-'";

name!(
    /// A Kubernetes namespace.
    Namespace, "namespace", LABEL, |text| text.len() <= 63 && is_label(text)
);
name!(
    /// `metadata.uid` of a namespace: one life of it.
    NamespaceUid, "namespace UID", UID, is_uid
);
name!(
    /// The name of a TokenUser, which is the API's `user_id`.
    UserName, "user name", SUBDOMAIN, is_subdomain
);
name!(
    /// The name of a StoredToken, by which callers ask for it.
    TokenName, "token name", SUBDOMAIN, is_subdomain
);
name!(
    /// The name of a service account in the tenant's namespace.
    ServiceAccountName, "service account name", SUBDOMAIN, is_subdomain
);
name!(
    /// The name of a TokenQuota.
    QuotaName, "quota name", SUBDOMAIN, is_subdomain
);
name!(
    /// What a quota counts: `accesses`, or what an application consumes itself.
    Counter, "counter", COUNTER, is_counter
);
name!(
    /// By which a consumption that is sent again is known.
    IdempotencyKey, "idempotency key", IDEMPOTENCY_KEY, is_idempotency_key
);
name!(
    /// The service outside the cluster that a token is for.
    Provider, "provider", CLAIM, is_claim
);
name!(
    /// What the application calls itself. A claim: nothing proves it.
    AppName, "app name", CLAIM, is_claim
);
name!(
    /// What the application says it wants a token for. A claim.
    Purpose, "purpose", CLAIM, is_claim
);

name!(
    /// Who a person says to be, as Kubernetes names users. A claim: nothing proves it.
    PersonName, "person's name", PERSON, is_person
);

impl Counter {
    /// Reads of tokens.
    #[must_use]
    pub fn accesses() -> Self {
        Self("accesses".to_owned())
    }

    /// Whether workloads count it themselves.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0 != "accesses"
    }
}

/// An e-mail address in normal form: no surrounding space, lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Email(String);

impl Email {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Email {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        let normal = text.trim().to_lowercase();
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        let two_sides = normal.split_once('@').is_some_and(|(mailbox, host)| {
            !mailbox.is_empty() && !host.is_empty() && !host.contains('@')
        });
        if two_sides && normal.len() <= 254 && normal.chars().all(plain) {
            Ok(Self(normal))
        } else {
            Err(NameError {
                kind: "e-mail address",
                rule: "a mailbox, one '@' and a host, at most 254 bytes, without spaces",
            })
        }
    }
}

macro_rules! uid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Uuid);

        impl $name {
            /// The UID as a UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uid: Uuid) -> Self {
                Self(uid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uid!(
    /// `metadata.uid` of a TokenUser. A user recreated under the same name is
    /// another one.
    UserUid
);
uid!(
    /// `metadata.uid` of a TokenQuota.
    QuotaId
);

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if inner(a) && inner(z))
        && bytes.iter().all(|&b| inner(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_counter(text: &str) -> bool {
    text.len() <= 63
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_idempotency_key(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(inner)
}

fn is_claim(text: &str) -> bool {
    is_plain(text, 64, b" ._:/@-")
}

fn is_person(text: &str) -> bool {
    is_plain(text, 128, b" ._:/@=,+#-")
}

fn is_plain(text: &str, longest: usize, marks: &[u8]) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || marks.contains(&b);
    let first = text.as_bytes().first();
    text.len() <= longest && first.is_some_and(u8::is_ascii_alphanumeric) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        let label63 = "a".repeat(63);
        for good in ["a", "team-a", "0", &label63] {
            assert!(Namespace::try_from(good).is_ok(), "{good}");
        }
        let label64 = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &label64] {
            assert!(Namespace::try_from(bad).is_err(), "{bad}");
        }
        for good in ["ana", "ana.github", "a-b.c"] {
            assert!(TokenName::try_from(good).is_ok(), "{good}");
        }
        let long = "a".repeat(254);
        for bad in ["", ".", "a.", ".a", "a..b", "a b", &long] {
            assert!(TokenName::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counters_are_camel_case_words() {
        for good in ["accesses", "filesUploaded", "a1"] {
            assert!(Counter::try_from(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "A", "1a", "a-b", "a b", "a.b", &long] {
            assert!(Counter::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn idempotency_keys_are_64_characters_without_spaces() {
        let longest = "k".repeat(64);
        for good in ["0", "8e03978e-40d5-43e8", "a.b_c:d-", &longest] {
            assert!(IdempotencyKey::try_from(good).is_ok(), "{good}");
        }
        let long = "k".repeat(65);
        for bad in ["", "a b", "a\"", "a/b", "\u{e4}", &long] {
            assert!(IdempotencyKey::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn claims_are_64_plain_characters() {
        let longest = "x".repeat(64);
        for good in ["a", "Nightly sync", "ci/build@main:1.2_3-4", &longest] {
            assert!(Purpose::try_from(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", " a", "-a", "a\n", "a\"b", "a{b", "ä", &long] {
            assert!(AppName::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_email_is_normalised() {
        let email = Email::try_from(" Ana@Example.ORG ").unwrap();
        assert_eq!(email.as_str(), "ana@example.org");
        for bad in ["", "ana", "@x", "ana@", "a@b@c", "a b@c", "a@b\tc"] {
            assert!(Email::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_name_is_not_quoted() {
        let error = Namespace::try_from("HUNTER2").unwrap_err().to_string();
        assert!(
            error.starts_with("a namespace is") && !error.contains("HUNTER2"),
            "{error}"
        );
    }
}
