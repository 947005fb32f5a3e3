//! `POST /v1/quotas/{user_id}/{counter}/consume` and `release`.

use bursar_wire::v1alpha1::count_response::Answer;
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::{CountRequest, Denied};
use http::HeaderMap;
use hyper::body::{Body, Bytes};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::problem::Problem;
use super::quotas::{Quota, quota};
use super::{PATIENCE, count_request};
use crate::allowance::denials::{Denial, whole_seconds};
use crate::broker::Broker;
use crate::jwt::bearer;
use crate::upstream::backoff::Backoff;
use crate::upstream::calls::CallError;

/// What is done with units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Consume,
    Release,
}

impl Call {
    /// The call of this name in a path.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "consume" => Some(Self::Consume),
            "release" => Some(Self::Release),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    counter: &'a str,
    amount: u64,
    quotas: Vec<Counted>,
}

#[derive(Serialize)]
struct Counted {
    #[serde(flatten)]
    quota: Quota,
    /// What this quota got back.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<u64>,
}

/// Counts: syntax, then the caller's JWT, then the vault's answer.
pub(crate) async fn count<B>(
    broker: &Broker,
    headers: &HeaderMap,
    body: B,
    (user_id, counter, call): (&str, &str, Call),
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    let request = count_request::read(headers, body, user_id, counter).await?;
    broker.authenticate(bearer(headers)?, broker.now())?;
    counted(broker, call, &request)
        .await
        .map_err(|problem| problem.about(&request.user_id))
}

async fn counted(broker: &Broker, call: Call, request: &CountRequest) -> Result<Bytes, Problem> {
    let answer = timeout(PATIENCE, ask(broker, call, request))
        .await
        .map_err(|_| Problem::count_unknown())??;
    match answer {
        Some(Answer::Counted(counted)) => {
            let quotas = counted.quotas.into_iter().map(|counted| {
                let released = (call == Call::Release).then_some(counted.released);
                Some(Counted {
                    quota: quota(counted)?,
                    released,
                })
            });
            let document = Document {
                counter: &request.counter,
                amount: request.amount,
                quotas: quotas.collect::<Option<_>>().ok_or(Denial::Unusable)?,
            };
            let body = serde_json::to_vec(&document).map_err(|_| Denial::Unusable)?;
            Ok(Bytes::from(body))
        }
        Some(Answer::Denied(denied)) => Err(refusal(denied)),
        None => Err(Denial::Unusable.into()),
    }
}

/// Asks the vault, and again when its answer is lost: under one key nothing is counted
/// twice.
async fn ask(
    broker: &Broker,
    call: Call,
    request: &CountRequest,
) -> Result<Option<Answer>, Problem> {
    let _turn = broker.quota_turns.acquire().await;
    let mut backoff = Backoff::default();
    let mut asked = false;
    loop {
        let calls = broker.calls.borrow().clone();
        let answer = match (calls, call) {
            (Some(calls), Call::Consume) => calls.consume(request.clone()).await,
            (Some(calls), Call::Release) => calls.release(request.clone()).await,
            // Nothing was sent, so there is nothing to find out.
            (None, _) if !asked => return Err(Problem::count_unknown()),
            // After a loss the next session is near.
            (None, _) => Err(CallError::StreamEnded),
        };
        asked = true;
        match answer {
            Ok(answer) => return Ok(answer),
            Err(CallError::Fenced) => broker.fenced.notify_waiters(),
            Err(CallError::Malformed(_)) => return Err(Denial::Unusable.into()),
            Err(_) => {}
        }
        sleep(backoff.delay(broker.jitter())).await;
    }
}

fn refusal(denied: Denied) -> Problem {
    match denied.code() {
        Code::CounterNotFound => Problem::counter_not_found(),
        Code::IdempotencyKeyReused => Problem::idempotency_key_reused(),
        Code::QuotaExhausted => {
            let retry_after = denied.retry_after_ms.map(whole_seconds);
            Problem::counter_exhausted(denied.quotas, retry_after)
        }
        _ => Denial::Forbidden.into(),
    }
}
