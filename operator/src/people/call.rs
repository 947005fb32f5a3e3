//! From a path, a method, headers and a body to what is asked. No I/O.

use bursar_vault::{Namespace, PersonName, TokenName};
use bursar_wire::people::{PERSON_HEADER, TOKEN_HEADER, is_decision_id};
use http::{HeaderMap, Method};

use super::problem::{Code, Problem};
use crate::metrics::PeopleCall;

/// What can be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Call {
    /// Which records there are.
    Audit,
    /// How quotas stand.
    Quotas,
    /// The record of one refused request.
    Why(String),
    /// Whether the records are as the vault wrote them.
    Verify,
    /// To revoke a token.
    Revoke(TokenName),
    /// How far that has come.
    Progress(TokenName),
}

/// Who asks, as they show it.
// No Debug: it has a token.
pub(super) struct Shown {
    pub(super) token: String,
    pub(super) person: PersonName,
}

impl Call {
    /// As it is counted.
    pub(super) fn kind(&self) -> PeopleCall {
        match self {
            Self::Audit => PeopleCall::Audit,
            Self::Quotas => PeopleCall::Quotas,
            Self::Why(_) => PeopleCall::Why,
            Self::Verify => PeopleCall::Verify,
            Self::Revoke(_) => PeopleCall::Revoke,
            Self::Progress(_) => PeopleCall::Progress,
        }
    }

    /// The namespace that is asked about, and what.
    pub(super) fn read(method: &Method, path: &str) -> Result<(Namespace, Self), Problem> {
        let parts: Vec<&str> = path.split('/').collect();
        let ["", "v1", "namespaces", namespace, rest @ ..] = parts.as_slice() else {
            return Err(not_found());
        };
        let name = |name: &str| TokenName::try_from(name).map_err(invalid);
        let (allow, call) = match rest {
            ["accessrecords", "query"] => ("POST", Self::Audit),
            ["tokenquotas", "query"] => ("POST", Self::Quotas),
            ["denials", id] => ("GET", Self::Why(decision_id(id)?)),
            ["verification"] => ("GET", Self::Verify),
            ["storedtokens", token, "revocation"] if method == Method::POST => {
                ("POST", Self::Revoke(name(token)?))
            }
            ["storedtokens", token, "revocation"] => ("GET", Self::Progress(name(token)?)),
            _ => return Err(not_found()),
        };
        if method.as_str() != allow {
            return Err(Problem::method(match call {
                Self::Progress(_) => "GET, POST",
                _ => allow,
            }));
        }
        let namespace = Namespace::try_from(*namespace).map_err(invalid)?;
        Ok((namespace, call))
    }
}

impl Shown {
    /// What the headers say of who asks.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let person = only(headers, PERSON_HEADER)?.ok_or_else(|| {
            Problem::invalid("say who you are in the header Bursar-Person: it goes on record")
        })?;
        let person = PersonName::try_from(person)
            .map_err(|error| Problem::invalid(format!("header Bursar-Person: {error}")))?;
        let token = only(headers, TOKEN_HEADER)?.ok_or_else(unauthenticated)?;
        Ok(Self {
            token: token.to_owned(),
            person,
        })
    }
}

/// The one value of a header.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Problem::invalid(format!("header {name} is not text"))),
        },
        (Some(_), Some(_)) => Err(Problem::invalid(format!("header {name} is there twice"))),
    }
}

/// No token, or none that is believed.
pub(super) fn unauthenticated() -> Problem {
    let detail = "send a service account token of the audience bursar-cli alone, not expired, in \
                  the header Bursar-Token";
    Problem::new(Code::Unauthenticated, detail)
}

fn decision_id(text: &str) -> Result<String, Problem> {
    if is_decision_id(text) {
        Ok(text.to_owned())
    } else {
        Err(Problem::invalid(
            "a decision id is 32 digits and letters a to f, as a broker's refusal has it",
        ))
    }
}

fn invalid(error: bursar_vault::NameError) -> Problem {
    Problem::invalid(error.to_string())
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "see kubectl bursar --help")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::{Call, Code, Shown};

    fn code(method: &Method, path: &str) -> Option<Code> {
        Call::read(method, path).err().map(|problem| problem.code)
    }

    #[test]
    fn each_path_is_one_call_and_no_other_is_answered() {
        let read = |method, path| Call::read(method, path).unwrap();
        let (namespace, call) = read(&Method::POST, "/v1/namespaces/team/accessrecords/query");
        assert_eq!((namespace.as_str(), call), ("team", Call::Audit));
        let (_, call) = read(&Method::POST, "/v1/namespaces/team/tokenquotas/query");
        assert_eq!(call, Call::Quotas);
        let revocation = "/v1/namespaces/team/storedtokens/ana.github/revocation";
        let name = "ana.github".parse().unwrap();
        assert_eq!(read(&Method::POST, revocation).1, Call::Revoke(name));
        let name = "ana.github".parse().unwrap();
        assert_eq!(read(&Method::GET, revocation).1, Call::Progress(name));
        let id = "0123456789abcdef0123456789abcdef";
        let why = format!("/v1/namespaces/team/denials/{id}");
        assert_eq!(read(&Method::GET, &why).1, Call::Why(id.to_owned()));
        for path in [
            "",
            "/",
            "/v1/namespaces/team",
            "/v1/namespaces/team/accessrecords",
            "/v1/namespaces/team/tokenquotas/limit",
            "/v1/namespaces/team/denials/a/b",
            "/v2/namespaces/team/denials/a",
            "//v1/namespaces/team/denials/a",
        ] {
            assert_eq!(code(&Method::GET, path), Some(Code::NotFound), "{path}");
        }
        for path in [
            "/v1/namespaces/TEAM/denials/0123456789abcdef0123456789abcdef",
            "/v1/namespaces//denials/0123456789abcdef0123456789abcdef",
            "/v1/namespaces/a%2Fb/denials/0123456789abcdef0123456789abcdef",
            "/v1/namespaces/team/denials/0123456789abcdef",
            "/v1/namespaces/team/denials/0123456789ABCDEF0123456789ABCDEF",
            "/v1/namespaces/team/storedtokens/A/revocation",
        ] {
            assert_eq!(
                code(&Method::GET, path),
                Some(Code::InvalidRequest),
                "{path}"
            );
        }
        for method in [Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(code(&method, revocation), Some(Code::MethodNotAllowed));
        }
    }

    #[test]
    fn who_asks_is_said_once_and_in_plain_characters() {
        let read = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            Shown::read(&map).err().map(|problem| problem.code)
        };
        let (token, person) = (("bursar-token", "t"), ("bursar-person", "ana@example.com"));
        assert_eq!(read(&[token, person]), None);
        assert_eq!(read(&[person]), Some(Code::Unauthenticated));
        for bad in [
            vec![token],
            vec![token, person, person],
            vec![token, token, person],
            vec![token, ("bursar-person", "<b>")],
        ] {
            assert_eq!(read(&bad), Some(Code::InvalidRequest), "{bad:?}");
        }
    }
}
