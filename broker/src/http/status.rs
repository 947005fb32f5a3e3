//! `GET /v1/tokens/status/{user_id}`: a user's tokens, without values.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::describe_user_response::Answer;
use bursar_wire::v1alpha1::{TokenSummary, UserTokens};
use http::HeaderMap;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::PATIENCE;
use super::problem::Problem;
use super::syntax::{NAME_RULE, is_name};
use crate::allowance::denials::Denial;
use crate::broker::Broker;
use crate::clock::BootTime;
use crate::jwt::bearer;

/// How long an answer is given again.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many users' answers are.
const MOST: usize = 256;

/// Answers of the last second, so that a program that polls does not reach the
/// vault each time.
#[derive(Default)]
pub(crate) struct Descriptions {
    remembered: RefCell<HashMap<Box<str>, (Described, BootTime)>>,
    /// Raised by every change, so that an answer from before is not remembered.
    generation: Cell<u64>,
    /// One question to the vault at a time; whoever waits finds its answer.
    turn: Mutex<()>,
}

type Described = Result<Bytes, Denial>;

impl Descriptions {
    /// Something has changed.
    pub(crate) fn forget_all(&self) {
        self.remembered.borrow_mut().clear();
        self.generation.set(self.generation.get() + 1);
    }

    fn get(&self, user_id: &str, now: BootTime) -> Option<Described> {
        let remembered = self.remembered.borrow();
        let (described, until) = remembered.get(user_id)?;
        (now < *until).then(|| described.clone())
    }

    fn remember(&self, user_id: &str, described: &Described, now: BootTime) {
        let mut remembered = self.remembered.borrow_mut();
        if remembered.len() >= MOST {
            remembered.retain(|_, (_, until)| now < *until);
        }
        if remembered.len() < MOST {
            remembered.insert(user_id.into(), (described.clone(), now.plus(REMEMBERED)));
        }
    }
}

/// Describes a user's tokens.
pub(crate) async fn status(
    broker: &Broker,
    headers: &HeaderMap,
    user_id: &str,
) -> Result<Bytes, Problem> {
    if !is_name(user_id) {
        return Err(Problem::invalid("user_id", NAME_RULE));
    }
    let now = broker.now();
    broker.authenticate(bearer(headers)?, now)?;
    let described = match broker.descriptions.get(user_id, now.boot) {
        Some(described) => Ok(described),
        None => timeout(PATIENCE, describe(broker, user_id))
            .await
            .unwrap_or_else(|_| Err(Problem::vault_unavailable())),
    };
    let answer = described.and_then(|described| Ok(described?));
    answer.map_err(|problem| problem.about(user_id))
}

async fn describe(broker: &Broker, user_id: &str) -> Result<Described, Problem> {
    let _turn = broker.descriptions.turn.lock().await;
    if let Some(described) = broker.descriptions.get(user_id, broker.clock.boot()) {
        return Ok(described);
    }
    let generation = broker.descriptions.generation.get();
    let answer = broker
        .ask(async |calls| calls.describe_user(user_id).await)
        .await?;
    let described = match answer {
        Some(Answer::User(tokens)) => document(user_id, tokens).ok_or(Denial::Unusable),
        Some(Answer::Denied(denied)) => Err(denied.into()),
        None => Err(Denial::Unusable),
    };
    if generation == broker.descriptions.generation.get() {
        broker
            .descriptions
            .remember(user_id, &described, broker.clock.boot());
    }
    Ok(described)
}

#[derive(Serialize)]
struct Document<'a> {
    user_id: &'a str,
    /// Whether a read of any of them would succeed now.
    has_token: bool,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    name: String,
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_time: Option<Timestamp>,
    usable: bool,
    reason: &'static str,
}

/// The answer's body; none when the vault's answer is malformed.
fn document(user_id: &str, user: UserTokens) -> Option<Bytes> {
    let tokens = user
        .tokens
        .into_iter()
        .map(token)
        .collect::<Option<Vec<_>>>()?;
    let has_token = tokens.iter().any(|token| token.usable);
    serde_json::to_vec(&Document {
        user_id,
        has_token,
        tokens,
    })
    .ok()
    .map(Bytes::from)
}

fn token(summary: TokenSummary) -> Option<Token> {
    let time = |millis: Option<i64>| millis.map(Timestamp::from_millisecond).transpose().ok();
    let reason = if summary.usable {
        "Serving"
    } else {
        match summary.reason() {
            Code::NoVersion => "TokenHasNoValue",
            Code::Revoked => "TokenRevoked",
            Code::Expired => "TokenExpired",
            Code::QuotaExhausted => "QuotaExhausted",
            Code::Unspecified
            | Code::Forbidden
            | Code::TokenNotFound
            | Code::TokenAmbiguous
            | Code::CounterNotFound
            | Code::IdempotencyKeyReused => "Forbidden",
        }
    };
    Some(Token {
        version: (summary.version > 0).then_some(summary.version),
        version_time: time(summary.version_time_ms)?,
        expiration_time: time(summary.expiration_time_ms)?,
        usable: summary.usable,
        reason,
        name: summary.token,
        provider: summary.provider,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn summary(usable: bool, reason: Code) -> TokenSummary {
        TokenSummary {
            token: "github".into(),
            provider: "github".into(),
            version: 2,
            version_time_ms: Some(1_000),
            expiration_time_ms: None,
            usable,
            reason: reason.into(),
        }
    }

    fn describe(tokens: Vec<TokenSummary>) -> Value {
        let body = document("ana", UserTokens { tokens }).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_user_without_a_usable_token_has_none() {
        assert_eq!(
            describe(vec![]),
            json!({"user_id": "ana", "has_token": false, "tokens": []})
        );
        assert_eq!(
            describe(vec![summary(false, Code::Revoked)])["has_token"],
            false
        );
    }

    #[test]
    fn each_token_is_described_without_its_value() {
        let empty = TokenSummary {
            version: 0,
            version_time_ms: None,
            expiration_time_ms: Some(2_000),
            ..summary(false, Code::NoVersion)
        };
        assert_eq!(
            describe(vec![summary(true, Code::Unspecified), empty]),
            json!({
                "user_id": "ana",
                "has_token": true,
                "tokens": [
                    {
                        "name": "github",
                        "provider": "github",
                        "version": 2,
                        "version_time": "1970-01-01T00:00:01Z",
                        "usable": true,
                        "reason": "Serving",
                    },
                    {
                        "name": "github",
                        "provider": "github",
                        "expiration_time": "1970-01-01T00:00:02Z",
                        "usable": false,
                        "reason": "TokenHasNoValue",
                    },
                ],
            })
        );
    }

    #[test]
    fn a_time_out_of_range_makes_the_answer_unusable() {
        let broken = TokenSummary {
            version_time_ms: Some(i64::MAX),
            ..summary(true, Code::Unspecified)
        };
        assert!(
            document(
                "ana",
                UserTokens {
                    tokens: vec![broken]
                }
            )
            .is_none()
        );
    }

    #[test]
    fn remembered_answers_are_fresh_bounded_and_forgotten_on_change() {
        let now = BootTime::after_boot(Duration::from_secs(9));
        let descriptions = Descriptions::default();
        for n in 0..2 * MOST {
            descriptions.remember(&n.to_string(), &Err(Denial::Forbidden), now);
        }
        assert_eq!(descriptions.remembered.borrow().len(), MOST);
        assert!(descriptions.get("0", now).is_some());
        assert!(descriptions.get("0", now.plus(REMEMBERED)).is_none());
        descriptions.remember("new", &Err(Denial::Forbidden), now.plus(REMEMBERED));
        assert_eq!(descriptions.remembered.borrow().len(), 1);
        descriptions.forget_all();
        assert!(descriptions.get("new", now).is_none());
    }
}
