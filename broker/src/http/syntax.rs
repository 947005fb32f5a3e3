//! What names may look like.

/// The longest object name of Kubernetes.
const MOST_NAME_BYTES: usize = 253;
/// The longest app name or purpose.
const MOST_CLAIM_BYTES: usize = 64;

/// What an object's name must be, for people.
pub(crate) const NAME_RULE: &str = "must be the name of a Kubernetes object: lower case letters, \
                                    digits, '-' and '.', at most 253 characters";
/// What an app name or a purpose must be, for people.
pub(crate) const CLAIM_RULE: &str = "must be 1 to 64 of a-z, A-Z, 0-9, space and ._:/@- and begin \
                                     with a letter or digit";

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

#[cfg(test)]
mod tests {
    use super::*;

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
