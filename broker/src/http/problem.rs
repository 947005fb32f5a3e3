//! Refusals, as problem details (RFC 9457).

use std::borrow::Cow;

use bursar_wire::{QUOTAS_TOLD, v1alpha1};
use http::HeaderValue;
use hyper::body::Bytes;
use serde::Serialize;

use super::code::Code;
use super::decision::DecisionId;
use super::{Answer, answer};
use crate::allowance::denials::Denial;
use crate::jwt::JwtError;

const CONTENT_TYPE: &str = "application/problem+json";
const INVALID_TOKEN: &str = r#"Bearer realm="bursar", error="invalid_token""#;
const NO_TOKEN: &str = r#"Bearer realm="bursar""#;
const RETRY_AFTER_SECONDS: &str = "2";

/// One refusal.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    more: More,
    /// TokenQuotas that are used up.
    quotas: Vec<String>,
    asked: Option<Box<v1alpha1::Denial>>,
}

/// What some refusals say beside code and detail.
#[derive(Clone, Debug)]
enum More {
    Nothing,
    /// The member of the body, the header or the part of the path at fault.
    Field(String),
    /// The names to choose from.
    Tokens(Vec<String>),
    /// The value of the header that goes with the code.
    Header(HeaderValue),
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: Code,
    decision_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<&'a [String]>,
}

impl Problem {
    /// A refusal; `detail` says what to do and quotes no input.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            more: More::Nothing,
            quotas: Vec::new(),
            asked: None,
        }
    }

    /// A refusal of a caller whose JWT was verified: what it asked for, in names that
    /// passed the syntax, is told to the vault. Nothing else of a request ever is; of the
    /// vault's answer, which quotas are used up.
    pub(crate) fn with_asked(mut self, mut asked: v1alpha1::Denial) -> Self {
        asked.quotas = self.quotas.iter().take(QUOTAS_TOLD).cloned().collect();
        self.asked = Some(Box::new(asked));
        self
    }

    /// The same where nothing but a user was asked about.
    pub(crate) fn about(self, user_id: &str) -> Self {
        self.with_asked(v1alpha1::Denial {
            user_id: user_id.to_owned(),
            ..v1alpha1::Denial::default()
        })
    }

    /// What a caller whose JWT was verified asked for.
    pub(crate) fn take_asked(&mut self) -> Option<v1alpha1::Denial> {
        self.asked.take().map(|asked| *asked)
    }

    fn with(self, more: More) -> Self {
        Self { more, ..self }
    }

    /// Bad input, and where: `rule` goes on from the field's name.
    pub(crate) fn invalid(field: &'static str, rule: &str) -> Self {
        Self::new(Code::InvalidRequest, format!("{field} {rule}"))
            .with(More::Field(field.to_owned()))
    }

    /// A header that only a request from elsewhere would have, or lack.
    pub(crate) fn not_local(header: &str, detail: &'static str) -> Self {
        Self::new(Code::NotLocal, detail).with(More::Field(header.to_owned()))
    }

    /// Another method than `allowed`.
    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(Code::MethodNotAllowed, format!("this call takes {allowed}"))
            .with(More::Header(HeaderValue::from_static(allowed)))
    }

    /// The vault is needed for this and does not answer.
    pub(crate) fn vault_unavailable() -> Self {
        Self::new(
            Code::VaultUnavailable,
            "the vault cannot be reached and nothing held here may be served any more: try again",
        )
        .with(More::Header(HeaderValue::from_static(RETRY_AFTER_SECONDS)))
    }

    /// Quotas are used up, for so many seconds or, without a number, for good.
    fn quota_exhausted(quotas: Vec<String>, retry_after: Option<u64>) -> Self {
        let names = quotas.join(", ");
        let detail = match retry_after {
            Some(_) => format!(
                "a quota is used up: try again when its period begins anew, or have the limit \
                 raised of TokenQuota {names}"
            ),
            None => {
                format!("a quota is used up for good: have the limit raised of TokenQuota {names}")
            }
        };
        Self::exhausted(detail, quotas, retry_after)
    }

    fn exhausted(detail: String, quotas: Vec<String>, retry_after: Option<u64>) -> Self {
        let more = retry_after.map_or(More::Nothing, |seconds| More::Header(seconds.into()));
        Self {
            quotas,
            ..Self::new(Code::QuotaExhausted, detail).with(more)
        }
    }

    /// Quotas have less left than an application asks for; when that may change, if ever.
    pub(crate) fn counter_exhausted(quotas: Vec<String>, retry_after: Option<u64>) -> Self {
        let names = quotas.join(", ");
        let detail = match retry_after {
            Some(_) => format!(
                "less is left than the amount: try again when the period begins anew, or have \
                 the limit raised of TokenQuota {names}"
            ),
            None => format!(
                "less is left than the amount, and waiting does not help: release some, ask \
                 for less, or have the limit raised of TokenQuota {names}"
            ),
        };
        Self::exhausted(detail, quotas, retry_after)
    }

    /// Nothing counts this.
    pub(crate) fn counter_not_found() -> Self {
        Self::new(
            Code::CounterNotFound,
            "no TokenQuota counts this for this user or service account: see kubectl get \
             tokenquotas",
        )
    }

    /// The key stands for another request.
    pub(crate) fn idempotency_key_reused() -> Self {
        Self::new(
            Code::IdempotencyKeyReused,
            "this Idempotency-Key was used for another amount or call on this counter: make a new \
             key for each request, and use it again only to repeat that one",
        )
    }

    /// The vault does not answer, and perhaps has counted.
    pub(crate) fn count_unknown() -> Self {
        Self::new(
            Code::VaultUnavailable,
            "the vault cannot be reached: try again with the same Idempotency-Key, under which \
             nothing is counted twice",
        )
        .with(More::Header(HeaderValue::from_static(RETRY_AFTER_SECONDS)))
    }

    /// What programs match on.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The refusal as an answer: its id is the only difference between two with
    /// the same code, field and tokens.
    pub(crate) fn into_answer(self, id: &DecisionId) -> Answer {
        let (mut field, mut tokens, mut header) = (None, None, None);
        match &self.more {
            More::Nothing => {}
            More::Field(name) => field = Some(name.as_str()),
            More::Tokens(names) => tokens = Some(names.as_slice()),
            More::Header(value) => header = self.code.header().map(|name| (name, value.clone())),
        }
        let document = Document {
            r#type: format!("https://bursar.dev/problems/{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code,
            decision_id: id.as_str(),
            field,
            tokens,
        };
        // Strings and numbers cannot fail to become JSON.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut answer = answer(self.code.status(), CONTENT_TYPE, Bytes::from(body));
        if let Some((name, value)) = header {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}

impl From<JwtError> for Problem {
    fn from(error: JwtError) -> Self {
        let challenge = if error == JwtError::Missing {
            NO_TOKEN
        } else {
            INVALID_TOKEN
        };
        Self::new(Code::Unauthenticated, error.to_string())
            .with(More::Header(HeaderValue::from_static(challenge)))
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Forbidden => Self::new(
                Code::Forbidden,
                // The same for each of them, so it lists all.
                "there is no such user or token, or this workload may not use it, or not for this \
                 purpose: see the TokenUser's workloads and suspended, and the StoredToken's consumers",
            ),
            Denial::TokenNotFound => Self::new(
                Code::TokenNotFound,
                "the user has no token of this name: see kubectl get storedtokens",
            ),
            Denial::TokenAmbiguous(tokens) => Self::new(
                Code::TokenAmbiguous,
                "the user has several tokens: name one in token",
            )
            .with(More::Tokens(tokens)),
            Denial::TokenHasNoValue => Self::new(
                Code::TokenHasNoValue,
                "no value was stored yet: see the StoredToken's condition Ready",
            ),
            Denial::TokenRevoked => Self::new(
                Code::TokenRevoked,
                "the token was revoked: it needs a new value in its source",
            ),
            Denial::TokenExpired => Self::new(
                Code::TokenExpired,
                "the token's expirationTime has passed: its StoredToken needs a later one",
            ),
            Denial::QuotaExhausted {
                retry_after,
                quotas,
            } => Self::quota_exhausted(quotas, retry_after),
            Denial::Unavailable => Self::vault_unavailable(),
            Denial::Unusable => Self::new(
                Code::InternalError,
                "the vault's answer cannot be used: see the broker's log",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use bursar_seal::SystemRandom;
    use http::StatusCode;
    use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;

    fn answer(problem: Problem) -> Answer {
        problem.into_answer(&DecisionId::new(&SystemRandom))
    }

    async fn body(problem: Problem) -> Bytes {
        answer(problem)
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_ours() {
        let body = body(Problem::invalid("purpose", "is required")).await;
        let document: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            document["type"],
            "https://bursar.dev/problems/InvalidRequest"
        );
        assert_eq!(document["title"], "Invalid request");
        assert_eq!(document["status"], 400);
        assert_eq!(document["detail"], "purpose is required");
        assert_eq!(document["code"], "InvalidRequest");
        assert_eq!(document["field"], "purpose");
        assert_eq!(document["decision_id"].as_str().unwrap().len(), 32);
    }

    #[tokio::test]
    async fn two_refusals_differ_in_their_ids_alone() {
        let first = body(Denial::Forbidden.into()).await;
        let second = body(Denial::Forbidden.into()).await;
        assert_ne!(first, second);
        assert_eq!(first.len(), second.len());
        let without_id = |bytes: &Bytes| {
            let mut document: Value = serde_json::from_slice(bytes).unwrap();
            document.as_object_mut().unwrap().remove("decision_id");
            document
        };
        assert_eq!(without_id(&first), without_id(&second));
    }

    #[test]
    fn a_caller_without_a_good_token_is_told_which_scheme_to_use() {
        let challenge = |error: JwtError| {
            let answer = answer(Problem::from(error));
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            answer.headers()[WWW_AUTHENTICATE]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(challenge(JwtError::Missing), NO_TOKEN);
        assert_eq!(challenge(JwtError::Expired), INVALID_TOKEN);
    }

    #[test]
    fn a_caller_whose_token_is_none_is_told_where_to_find_one() {
        for error in [JwtError::Missing, JwtError::Invalid] {
            assert!(error.to_string().contains("BURSAR_TOKEN_FILE"));
        }
    }

    #[test]
    fn no_refusal_may_be_cached() {
        for code in Code::ALL {
            let answer = answer(Problem::new(*code, "why"));
            assert_eq!(answer.headers()["cache-control"], "no-store");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }

    #[tokio::test]
    async fn a_used_up_quota_says_when_it_begins_anew_if_it_does() {
        let exhausted = |retry_after| {
            let quotas = vec!["daily".to_owned()];
            Problem::from(Denial::QuotaExhausted {
                retry_after,
                quotas,
            })
        };
        let later = answer(exhausted(Some(3_600)));
        assert_eq!(later.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(later.headers()[RETRY_AFTER], "3600");
        let never = answer(exhausted(None));
        assert_eq!(never.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(!never.headers().contains_key(RETRY_AFTER));
        for retry_after in [Some(3_600), None] {
            let document: Value =
                serde_json::from_slice(&body(exhausted(retry_after)).await).unwrap();
            let detail = document["detail"].as_str().unwrap();
            assert!(detail.ends_with("raised of TokenQuota daily"), "{detail}");
        }
    }

    #[test]
    fn a_caller_is_told_when_to_come_back_when_the_vault_is_away() {
        let answer = answer(Problem::vault_unavailable());
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
}
