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
/// The longest counter.
pub(crate) const MAX_COUNTER: u32 = 63;
/// The longest period: four times five digits and the unit ms.
pub(crate) const MAX_PERIOD: u32 = 28;
/// The longest subject in a status: `serviceaccount/` and a name.
pub(crate) const MAX_SUBJECT: u32 = 15 + MAX_NAME;
/// The longest reason of a condition.
pub(crate) const MAX_REASON: u32 = 64;
/// The longest message of a condition, by Kubernetes' own rule.
pub(crate) const MAX_MESSAGE: u32 = 32_768;

/// What a window must have. The rule is on the struct.
pub(crate) const WINDOW_SENTENCE: &str =
    "A window of type Period has a period, for example 24h, and one of type Lifetime has none.";
/// What a period may be.
pub(crate) const PERIOD_SENTENCE: &str = "A period is written in h, m, s and ms, for example 24h or 1h30m, and is whole seconds: at least \
     1m and at most 8784h (366 days).";

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

/// What a quota counts: `accesses`, or an application's own name in camelCase.
pub(crate) fn counter() -> Rule {
    Rule::new("self.matches('^[a-z][A-Za-z0-9]*$')").message(
        "A counter has letters and digits and begins with a lower case letter: accesses, or a name \
         of your own, for example filesUploaded.",
    )
}

/// A duration of GEP-2257 that can be a window. `Window::seconds` takes the same.
pub(crate) fn period() -> Rule {
    Rule::new(
        "self.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$') \
         && duration(self) >= duration('1m') && duration(self) <= duration('8784h') \
         && duration(self).getMilliseconds() % 1000 == 0",
    )
    .message(PERIOD_SENTENCE)
}
