//! The syntax of single strings: a rule each, with the sentence that people read when it is broken,
//! and lengths in characters.
//!
//! Rules in CEL and no `pattern`: a broken pattern is answered with the regular expression itself.
//! Names follow Kubernetes' own rules, so that whatever can exist can be named.

use kube::core::Rule;

/// The longest name Kubernetes allows for an object.
pub(crate) const MAX_NAME: u32 = 253;
/// The longest provider.
pub(crate) const MAX_PROVIDER: u32 = 63;
/// The longest address that fits into an SMTP path (RFC 5321, 4.5.3.1.3).
pub(crate) const MAX_EMAIL: u32 = 254;
/// The longest purpose.
pub(crate) const MAX_PURPOSE: u32 = 64;
/// The longest prefix of a generated value.
pub(crate) const MAX_PREFIX: u32 = 64;
/// The longest display name.
pub(crate) const MAX_DISPLAY_NAME: u32 = 128;
/// The longest UID; Kubernetes makes UUIDs of 36.
pub(crate) const MAX_UID: u32 = 64;
/// The longest reason of a condition.
pub(crate) const MAX_REASON: u32 = 64;
/// The longest message of a condition, by Kubernetes' own rule.
pub(crate) const MAX_MESSAGE: u32 = 32_768;

/// An RFC 1123 subdomain: the name of a Secret, a ServiceAccount, a TokenUser; and a provider.
pub(crate) fn dns_subdomain(what: &str, example: &str) -> Rule {
    let sentence = format!(
        "{what} may have lower case letters, digits, '-' and '.', and begins and ends with a \
         letter or digit, for example {example}."
    );
    Rule::new("!format.dns1123Subdomain().validate(self).hasValue()").message(sentence.as_str())
}

/// A key in a Secret's `data`.
pub(crate) fn secret_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$')").message(
        "A key of a Secret may have letters, digits, '-', '_' and '.', for example api-token.",
    )
}

/// Something on both sides of one `@`. Only a message sent there proves more.
pub(crate) fn email() -> Rule {
    Rule::new(r"self.matches(r'^[^@\s\pZ\pC]+@[^@\s\pZ\pC]+$')")
        .message("An email has one @ and no spaces, for example ana@example.com.")
}

/// What callers say a token is for; the broker's API takes the same.
pub(crate) fn purposes() -> Rule {
    Rule::new("self.all(purpose, purpose.matches('^[A-Za-z0-9][A-Za-z0-9 ._:/@-]*$'))").message(
        "A purpose may have letters, digits, spaces and any of . _ : / @ - and begins with a \
         letter or digit, for example sync-repositories.",
    )
}

/// What may stand in front of a generated value: printable, and safe in headers and shells.
pub(crate) fn prefix() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9._-]+$')").message(
        "A prefix may have letters, digits, '.', '_' and '-', for example app_; leave the field \
         out for none.",
    )
}
