//! What names may look like.

/// The longest object name of Kubernetes.
const MOST_NAME_BYTES: usize = 253;
/// The longest app name or purpose.
const MOST_CLAIM_BYTES: usize = 64;
/// The longest counter.
const MOST_COUNTER_BYTES: usize = 63;
/// The longest idempotency key.
const MOST_KEY_BYTES: usize = 64;

/// What an object's name must be, for people.
pub(crate) const NAME_RULE: &str = "must be the name of a Kubernetes object: lower case letters, \
                                    digits, '-' and '.', at most 253 characters";
/// What an app name or a purpose must be, for people.
pub(crate) const CLAIM_RULE: &str = "must be 1 to 64 of a-z, A-Z, 0-9, space and ._:/@- and begin \
                                     with a letter or digit";

/// What a counter must be, for people.
pub(crate) const COUNTER_RULE: &str = "must be 1 to 63 of a-z, A-Z and 0-9, begin with a lower \
                                       case letter, and not be accesses, which are counted when a \
                                       token is read";
/// What an idempotency key must be, for people.
pub(crate) const KEY_RULE: &str = "must be there once, with 1 to 64 of a-z, A-Z, 0-9 and ._:- , new \
                                   for each request and the same when it is repeated";

/// Whether `text` can be an object's name (a DNS subdomain, RFC 1123).
pub(crate) fn is_name(text: &str) -> bool {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let mut labels = text.as_bytes().split(|b| *b == b'.');
    text.len() <= MOST_NAME_BYTES
        && labels.all(|label| {
            !label.is_empty()
                && label.iter().all(inner)
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-')
        })
}

/// Whether `text` can be an app name or a purpose:
/// `[A-Za-z0-9][A-Za-z0-9 ._:/@-]{0,63}`.
pub(crate) fn is_claim(text: &str) -> bool {
    text.len() <= MOST_CLAIM_BYTES
        && text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" ._:/@-".contains(&b))
}

/// Whether `text` can be a counter of an application's own: `[a-z][A-Za-z0-9]{0,62}`,
/// and not `accesses`.
pub(crate) fn is_own_counter(text: &str) -> bool {
    text.len() <= MOST_COUNTER_BYTES
        && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
        && text != "accesses"
}

/// The key in the header `Idempotency-Key`: `[A-Za-z0-9._:-]{1,64}`, as it is or in the
/// quotes that the IETF's draft has around it; both are the same key.
pub(crate) fn idempotency_key(header: &str) -> Option<&str> {
    let quoted = |text: &'_ str| text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    let key = if quoted(header) {
        &header[1..header.len() - 1]
    } else {
        header
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    ((1..=MOST_KEY_BYTES).contains(&key.len()) && key.bytes().all(allowed)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_camel_case_words_and_not_accesses() {
        for good in ["a", "filesUploaded", "a1", &"a".repeat(63)] {
            assert!(is_own_counter(good), "{good}");
        }
        for bad in ["", "A", "1a", "a-b", "a%20b", "accesses", &"a".repeat(64)] {
            assert!(!is_own_counter(bad), "{bad}");
        }
    }

    #[test]
    fn an_idempotency_key_is_the_same_with_and_without_quotes() {
        let longest = "k".repeat(64);
        for key in ["0", "8e03978e-40d5-43e8", "a.b_c:d", &longest] {
            assert_eq!(idempotency_key(key), Some(key));
            assert_eq!(idempotency_key(&format!("\"{key}\"")), Some(key));
        }
        let long = "k".repeat(65);
        for bad in [
            "",
            "\"",
            "\"\"",
            "\"a",
            "a\"",
            "a b",
            "a,b",
            "\"a\";p=1",
            "\u{e4}",
            &long,
        ] {
            assert_eq!(idempotency_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["a", "ana", "ana-2", "ana.github", "0", &"a".repeat(253)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "Ana",
            "-ana",
            "ana-",
            ".ana",
            "ana.",
            "a..b",
            "a.-b",
            "a_b",
            "a/b",
            "a%2fb",
            "a b",
            "é",
            &"a".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn claims_are_short_and_printable() {
        for good in [
            "a",
            "Nightly sync",
            "ci/build:42",
            "a@b.c",
            "0-_",
            &"a".repeat(64),
        ] {
            assert!(is_claim(good), "{good}");
        }
        for bad in [
            "",
            " a",
            "-a",
            "a\n",
            "a\u{0}",
            "é",
            "a\"b",
            "<a>",
            "a,b",
            &"a".repeat(65),
        ] {
            assert!(!is_claim(bad), "{bad:?}");
        }
    }
}
