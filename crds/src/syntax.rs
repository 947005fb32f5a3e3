//! The syntax of single strings: patterns (RE2, anchored) and lengths in characters.
//!
//! Names follow Kubernetes' own rules, so that whatever can exist can be named.

/// RFC 1123 subdomain: the name of a Secret, a ServiceAccount, a TokenUser; and a provider.
pub(crate) const DNS_SUBDOMAIN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The longest name Kubernetes allows for an object.
pub(crate) const MAX_NAME: u32 = 253;
/// The longest provider.
pub(crate) const MAX_PROVIDER: u32 = 63;

/// A key in a Secret's `data`.
pub(crate) const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// Something on both sides of one `@`. Only a message sent there proves more.
pub(crate) const EMAIL: &str = r"^[^@\s]+@[^@\s]+$";
/// The longest address that fits into an SMTP path (RFC 5321, 4.5.3.1.3).
pub(crate) const MAX_EMAIL: u32 = 254;

/// What a caller says a token is for; the broker's API takes the same.
pub(crate) const PURPOSE: &str = r"^[A-Za-z0-9][A-Za-z0-9 ._:/@-]{0,63}$";
/// The longest purpose.
pub(crate) const MAX_PURPOSE: u32 = 64;

/// What may stand in front of a generated value: printable, and safe in headers and shells.
pub(crate) const PREFIX: &str = r"^[A-Za-z0-9._-]+$";
/// The longest prefix.
pub(crate) const MAX_PREFIX: u32 = 64;

/// The longest display name.
pub(crate) const MAX_DISPLAY_NAME: u32 = 128;
/// The longest UID; Kubernetes makes UUIDs of 36.
pub(crate) const MAX_UID: u32 = 64;
/// The longest reason of a condition.
pub(crate) const MAX_REASON: u32 = 64;
