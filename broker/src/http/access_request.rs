//! The body of `POST /v1/tokens/access`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::body::position;
use super::problem::Problem;
use super::syntax::{CLAIM_RULE, NAME_RULE, is_claim, is_name};

const ONLY_KNOWN_MEMBERS: &str =
    "must have no members but user_id, app_name, purpose and, optionally, token";

/// What a workload asks for, and what it claims to ask for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct AccessRequest<'a> {
    /// The TokenUser's name.
    pub(crate) user_id: Cow<'a, str>,
    /// The StoredToken's name; may be left out when the user has one.
    pub(crate) token: Option<Cow<'a, str>>,
    pub(crate) app_name: Cow<'a, str>,
    pub(crate) purpose: Cow<'a, str>,
}

/// The body as almost all are: nothing escaped, so nothing is copied.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    user_id: &'a str,
    token: Option<&'a str>,
    app_name: &'a str,
    purpose: &'a str,
}

impl<'a> AccessRequest<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// A [`Problem`] that names the member at fault.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let request = match serde_json::from_slice::<Plain<'a>>(body) {
            Ok(plain) => Self {
                user_id: plain.user_id.into(),
                token: plain.token.map(Cow::from),
                app_name: plain.app_name.into(),
                purpose: plain.purpose.into(),
            },
            Err(_) => Self::parse_member_by_member(body)?,
        };
        for (field, name) in [
            ("user_id", Some(&request.user_id)),
            ("token", request.token.as_ref()),
        ] {
            if name.is_some_and(|name| !is_name(name)) {
                return Err(Problem::invalid(field, NAME_RULE));
            }
        }
        for (field, claim) in [
            ("app_name", &request.app_name),
            ("purpose", &request.purpose),
        ] {
            if !is_claim(claim) {
                return Err(Problem::invalid(field, CLAIM_RULE));
            }
        }
        Ok(request)
    }

    /// The same, with nothing of the body that it was read from.
    pub(crate) fn into_owned(self) -> AccessRequest<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        AccessRequest {
            user_id: owned(self.user_id),
            token: self.token.map(owned),
            app_name: owned(self.app_name),
            purpose: owned(self.purpose),
        }
    }

    /// [`Self::parse`], slower: takes escaped strings too, and knows what is wrong.
    fn parse_member_by_member(body: &[u8]) -> Result<Self, Problem> {
        let Members(members) = serde_json::from_slice(body).map_err(|error| {
            let at = position(&error);
            Problem::invalid("body", &format!("must be one JSON object in UTF-8{at}"))
        })?;
        let mut is_unknown = false;
        let (mut user_id, mut token, mut app_name, mut purpose) = (None, None, None, None);
        for (name, value) in members {
            let (field, member) = match name.as_str() {
                "user_id" => ("user_id", &mut user_id),
                "token" => ("token", &mut token),
                "app_name" => ("app_name", &mut app_name),
                "purpose" => ("purpose", &mut purpose),
                // Its name is not repeated: who mixes up names and values sends a secret here.
                _ => {
                    is_unknown = true;
                    continue;
                }
            };
            if member.is_some() {
                return Err(Problem::invalid(field, "must be there once, not twice"));
            }
            let text = match value {
                Value::String(text) => Some(text),
                Value::Null if field == "token" => None,
                _ => return Err(Problem::invalid(field, "must be a string")),
            };
            *member = Some(text);
        }
        let required = |field, member: Option<Option<String>>| {
            member
                .flatten()
                .map(Cow::from)
                .ok_or_else(|| match is_unknown {
                    // Most likely the same mistake.
                    true => Problem::invalid(
                        field,
                        &format!("is required; the body {ONLY_KNOWN_MEMBERS}"),
                    ),
                    false => Problem::invalid(field, "is required"),
                })
        };
        let request = Self {
            user_id: required("user_id", user_id)?,
            token: token.flatten().map(Cow::from),
            app_name: required("app_name", app_name)?,
            purpose: required("purpose", purpose)?,
        };
        match is_unknown {
            true => Err(Problem::invalid("body", ONLY_KNOWN_MEMBERS)),
            false => Ok(request),
        }
    }
}

/// An object's members as they come, repeated ones too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use bursar_seal::SystemRandom;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::http::decision::DecisionId;

    const GOOD: &str = r#"{"user_id":"ana","app_name":"ci","purpose":"sync"}"#;

    async fn problem(body: &[u8]) -> Value {
        let problem = AccessRequest::parse(body).unwrap_err();
        let answer = problem.into_answer(&DecisionId::new(&SystemRandom));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_request_is_read_without_copies() {
        let request = AccessRequest::parse(GOOD.as_bytes()).unwrap();
        assert!(matches!(request.user_id, Cow::Borrowed("ana")));
        assert!(matches!(request.app_name, Cow::Borrowed("ci")));
        assert_eq!(request.token, None);
    }

    #[test]
    fn an_escaped_request_means_the_same() {
        let escaped = GOOD
            .replace("ana", "\\u0061na")
            .replace("app_name", "app\\u005fname");
        let request = AccessRequest::parse(escaped.as_bytes()).unwrap();
        assert_eq!(request, AccessRequest::parse(GOOD.as_bytes()).unwrap());
    }

    #[test]
    fn a_token_may_be_named_null_or_left_out() {
        for (member, token) in [
            (r#""token":"github","#, Some("github")),
            (r#""token":null,"#, None),
            ("", None),
        ] {
            for user_id in ["ana", "\\u0061na"] {
                let body = format!(
                    r#"{{{member}"user_id":"{user_id}","app_name":"ci","purpose":"sync"}}"#
                );
                let request = AccessRequest::parse(body.as_bytes()).unwrap();
                assert_eq!(request.token.as_deref(), token, "{body}");
            }
        }
    }

    #[tokio::test]
    async fn the_member_at_fault_is_named() {
        for (field, body) in [
            ("user_id", r#"{"app_name":"ci","purpose":"sync"}"#),
            (
                "user_id",
                r#"{"user_id":null,"app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "user_id",
                r#"{"user_id":"Ana","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "user_id",
                r#"{"user_id":"a/b","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "user_id",
                r#"{"user_id":"","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "user_id",
                r#"{"user_id":"ana","user_id":"bo","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "token",
                r#"{"user_id":"ana","token":"","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "token",
                r#"{"user_id":"ana","token":7,"app_name":"ci","purpose":"sync"}"#,
            ),
            ("app_name", r#"{"user_id":"ana","purpose":"sync"}"#),
            (
                "app_name",
                r#"{"user_id":"ana","app_name":7,"purpose":"sync"}"#,
            ),
            (
                "app_name",
                r#"{"user_id":"ana","app_name":"a\nb","purpose":"sync"}"#,
            ),
            ("purpose", r#"{"user_id":"ana","app_name":"ci"}"#),
            (
                "purpose",
                r#"{"user_id":"ana","app_name":"ci","purpose":" sync"}"#,
            ),
            (
                "purpose",
                r#"{"user_id":"ana","app_name":"ci","purpose":["sync"]}"#,
            ),
            (
                "body",
                r#"{"user_id":"ana","app_name":"ci","purpose":"sync","extra":1}"#,
            ),
            (
                "body",
                r#"{"user_id":"ana","app_name":"ci","purpose":"sync","\n":1}"#,
            ),
            ("body", r#"["ana"]"#),
            ("body", r#"{"user_id":"ana""#),
            (
                "body",
                r#"{"user_id":"ana","app_name":"ci","purpose":"sync"} {}"#,
            ),
            ("body", "null"),
            ("body", ""),
        ] {
            let problem = problem(body.as_bytes()).await;
            assert_eq!(problem["field"], field, "{body}: {problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{field} ")), "{body}: {detail}");
            assert_eq!(problem["status"], 400);
        }
    }

    #[tokio::test]
    async fn what_is_not_utf8_is_refused() {
        let body = b"{\"user_id\":\"\xff\",\"app_name\":\"ci\",\"purpose\":\"sync\"}";
        assert_eq!(problem(body).await["field"], "body");
    }

    #[tokio::test]
    async fn who_sends_an_unknown_member_is_told_which_there_are_and_which_is_missing() {
        for (field, body) in [
            (
                "user_id",
                r#"{"user":"ana","app_name":"ci","purpose":"sync"}"#,
            ),
            (
                "purpose",
                r#"{"user_id":"ana","app_name":"ci","reason":"sync"}"#,
            ),
        ] {
            let problem = problem(body.as_bytes()).await;
            assert_eq!(problem["field"], field);
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(
                detail,
                format!("{field} is required; the body {ONLY_KNOWN_MEMBERS}")
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_json_is_told_where_it_ceases_to_be() {
        for (body, at) in [
            (
                "{\"user_id\":\"ana\",\n \"app_name\": ci}",
                "line 2, column 14",
            ),
            (r#"{"user_id":"ana","#, "line 1, column 17"),
        ] {
            let detail = problem(body.as_bytes()).await["detail"].to_string();
            assert!(detail.contains(at), "{detail}");
        }
    }

    #[tokio::test]
    async fn nothing_that_was_sent_is_quoted_back() {
        for body in [
            r#"{"user_id":"HUNTER2","app_name":"ci","purpose":"sync"}"#,
            r#"{"user_id":"ana","app_name":"ci","purpose":"sync","HUNTER2":1}"#,
            r#"HUNTER2"#,
        ] {
            let problem = problem(body.as_bytes()).await.to_string();
            assert!(!problem.contains("HUNTER2"), "{problem}");
        }
    }
}
