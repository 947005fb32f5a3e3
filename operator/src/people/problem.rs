//! Why a call is not answered (RFC 9457).

use std::fmt;

use bursar_vault::{Category, DatabaseError, RevokeError, VaultError};
use bursar_wire::people::{self, PROBLEM_JSON};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use crate::audit::AnchorError;

/// One line per code: its name, the status, the title.
macro_rules! codes {
    ($($(#[$doc:meta])+ $code:ident => $status:ident, $title:literal;)+) => {
        /// By which programs tell problems apart.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) enum Code {
            $($(#[$doc])+ $code,)+
        }

        impl Code {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$code),+];

            pub(super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)+
                }
            }

            pub(super) fn title(self) -> &'static str {
                match self {
                    $(Self::$code => $title,)+
                }
            }

            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => stringify!($code),)+
                }
            }
        }
    };
}

codes! {
    /// The request has something that is not understood.
    InvalidRequest => BAD_REQUEST, "The request is not understood";
    /// No token, or not one of the right audience, or not valid any more.
    Unauthenticated => UNAUTHORIZED, "Who asks is not known";
    /// No such namespace, or no right in it.
    Forbidden => FORBIDDEN, "Not allowed";
    /// No such path.
    NotFound => NOT_FOUND, "No such path";
    /// The vault has nothing of the namespace yet.
    NothingStored => NOT_FOUND, "Nothing is stored for this namespace";
    /// No such token in the namespace.
    TokenNotFound => NOT_FOUND, "No such token";
    /// No such refused request on record.
    DenialNotFound => NOT_FOUND, "No such refused request on record";
    /// The path is there for another method.
    MethodNotAllowed => METHOD_NOT_ALLOWED, "Not with this method";
    /// There is nothing to revoke.
    NoVersion => CONFLICT, "There is no such version";
    /// A query was given up.
    TookTooLong => UNPROCESSABLE_ENTITY, "The query takes too long";
    /// Too many ask at once.
    TooManyRequests => TOO_MANY_REQUESTS, "Too many requests";
    /// A row or key is not what the vault wrote.
    IntegrityFailure => INTERNAL_SERVER_ERROR, "The vault does not believe what is stored";
    /// A defect.
    Internal => INTERNAL_SERVER_ERROR, "The operator failed";
    /// The database or the Kubernetes API is away.
    Unavailable => SERVICE_UNAVAILABLE, "Not available";
}

/// Why a call is not answered.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) code: Code,
    detail: String,
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            allow: None,
        }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(Code::MethodNotAllowed, format!("use {allow}"))
        }
    }

    /// The Kubernetes API did not say.
    pub(super) fn kubernetes(what: &str, error: kube::Error) -> Self {
        // Not its text: an error about a body may quote the body, and that has a token in it.
        let error = match error {
            kube::Error::Api(status) => status.reason,
            _ => "no answer".to_owned(),
        };
        tracing::warn!(error, "the Kubernetes API could not {what}");
        let detail = format!("the Kubernetes API could not {what}; try again");
        Self::new(Code::Unavailable, detail)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let problem = people::Problem {
            status: self.code.status().as_u16(),
            title: self.code.title().to_owned(),
            detail: self.detail,
            code: self.code.as_str().to_owned(),
        };
        let mut response = json(self.code.status(), &problem);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.code {
            Code::Unauthenticated => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bursar-Token"));
            }
            Code::TooManyRequests | Code::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        if matches!(&error, VaultError::Database(error) if error.took_too_long()) {
            let detail = "the query was given up after 30 seconds: ask about less: of records about less \
                          time (--since), of quotas about one (its name, or --user)";
            return Self::new(Code::TookTooLong, detail);
        }
        let code = match error.category() {
            Category::Unavailable => Code::Unavailable,
            Category::Integrity => Code::IntegrityFailure,
            Category::Refused | Category::Superseded => Code::NothingStored,
            Category::Misconfigured | Category::Internal => Code::Internal,
        };
        match code {
            Code::Unavailable => tracing::debug!(%error, "the vault did not answer a person"),
            _ => tracing::warn!(%error, "the vault did not answer a person"),
        }
        let detail = match code {
            Code::Unavailable => "the database is not available; try again",
            Code::IntegrityFailure => {
                "a row or key is not what the vault wrote, which is on record now: find out who can \
                 write to the database"
            }
            Code::NothingStored => "the namespace was recreated meanwhile; try again",
            _ => "see the log of bursar-operator",
        };
        Self::new(code, detail)
    }
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        VaultError::from(error).into()
    }
}

impl From<AnchorError> for Problem {
    fn from(error: AnchorError) -> Self {
        match error {
            AnchorError::Vault(error) => error.into(),
            AnchorError::Kubernetes { source, .. } => {
                Self::kubernetes("read the checkpoint", *source)
            }
            AnchorError::Unreadable { .. } | AnchorError::SetBack { .. } => {
                Self::new(Code::IntegrityFailure, error.to_string())
            }
        }
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::Vault(error) => error.into(),
            RevokeError::NotFound(_) => Self::new(Code::TokenNotFound, error.to_string()),
            RevokeError::NoVersion(_) | RevokeError::NoSuchVersion { .. } => {
                Self::new(Code::NoVersion, error.to_string())
            }
        }
    }
}

/// An answer that nobody keeps.
pub(super) fn json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    // Our types have nothing in them that JSON has not.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn the_reference_has_every_code_with_its_status_and_no_other() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, section) = page.split_once("\n### Problem codes for people\n").unwrap();
        let section = section.split("\n#").next().unwrap();
        let mut written: Vec<String> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.split('|').skip(1).take(2).map(str::trim).collect())
            .collect();
        let row = |code: &Code| format!("`{}`{}", code.as_str(), code.status().as_u16());
        let mut known: Vec<String> = Code::ALL.iter().map(row).collect();
        written.sort();
        known.sort();
        assert_eq!(written, known);
    }
}
