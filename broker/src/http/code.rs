//! The stable names of what went wrong, and what of an answer follows from them alone.

use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};
use serde::Serialize;

/// One line per code: its name, the status, the title.
macro_rules! codes {
    ($($code:ident => $status:ident, $title:literal;)+) => {
        /// What went wrong; the names are stable and programs match on them.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
        pub(crate) enum Code {
            $($code,)+
        }

        impl Code {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$code),+];

            /// The code as programs see it.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)+
                }
            }

            pub(crate) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)+
                }
            }

            pub(crate) const fn title(self) -> &'static str {
                match self {
                    $(Self::$code => $title,)+
                }
            }
        }
    };
}

codes! {
    InvalidRequest => BAD_REQUEST, "Invalid request";
    NotLocal => BAD_REQUEST, "Not a request from this pod";
    Unauthenticated => UNAUTHORIZED, "Unauthenticated";
    Forbidden => FORBIDDEN, "Forbidden";
    NotFound => NOT_FOUND, "No such call";
    TokenNotFound => NOT_FOUND, "No such token";
    TokenHasNoValue => NOT_FOUND, "Token has no value yet";
    CounterNotFound => NOT_FOUND, "No such counter";
    MethodNotAllowed => METHOD_NOT_ALLOWED, "Method not allowed";
    TokenAmbiguous => CONFLICT, "Several tokens";
    TokenRevoked => GONE, "Token revoked";
    TokenExpired => GONE, "Token expired";
    BodyTooLarge => PAYLOAD_TOO_LARGE, "Body too large";
    UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE, "Unsupported media type";
    IdempotencyKeyReused => UNPROCESSABLE_ENTITY, "Idempotency key reused";
    QuotaExhausted => TOO_MANY_REQUESTS, "Quota exhausted";
    InternalError => INTERNAL_SERVER_ERROR, "Internal error";
    VaultUnavailable => SERVICE_UNAVAILABLE, "Vault unavailable";
}

impl Code {
    /// The header that some codes come with.
    pub(crate) const fn header(self) -> Option<HeaderName> {
        match self {
            Self::Unauthenticated => Some(WWW_AUTHENTICATE),
            Self::MethodNotAllowed => Some(ALLOW),
            Self::VaultUnavailable | Self::QuotaExhausted => Some(RETRY_AFTER),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_has_its_name_and_number() {
        for (number, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }

    #[test]
    fn every_code_stands_in_the_reference_with_its_status() {
        let page = include_str!("../../../docs/reference.md");
        for code in Code::ALL {
            let row = format!("| `{}` | {} |", code.name(), code.status().as_u16());
            assert!(page.contains(&row), "{row}");
        }
    }
}
