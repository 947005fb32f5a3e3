//! `GET /v1/quotas/{user_id}`: what limits a user and this workload.

use bursar_wire::v1alpha1::QuotaUse;
use bursar_wire::v1alpha1::describe_quotas_response::Answer;
use http::HeaderMap;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::timeout;

use super::PATIENCE;
use super::problem::Problem;
use super::syntax::{NAME_RULE, is_name};
use crate::allowance::denials::Denial;
use crate::broker::Broker;
use crate::jwt::bearer;

#[derive(Serialize)]
struct Document<'a> {
    user_id: &'a str,
    quotas: Vec<Quota>,
}

/// A TokenQuota and its present window.
#[derive(Serialize)]
pub(crate) struct Quota {
    name: String,
    counter: String,
    subject: String,
    enforcement: &'static str,
    limit: u64,
    /// Of accesses: what brokers were granted and did not give back.
    used: u64,
    remaining: u64,
    window: Window,
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_time: Option<Timestamp>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Window {
    Lifetime,
    Period { period_seconds: u64 },
}

/// Describes the quotas that concern a user and this workload.
pub(crate) async fn describe(
    broker: &Broker,
    headers: &HeaderMap,
    user_id: &str,
) -> Result<Bytes, Problem> {
    if !is_name(user_id) {
        return Err(Problem::invalid("user_id", NAME_RULE));
    }
    broker.authenticate(bearer(headers)?, broker.now())?;
    described(broker, user_id)
        .await
        .map_err(|problem| problem.about(user_id))
}

async fn described(broker: &Broker, user_id: &str) -> Result<Bytes, Problem> {
    let answer = timeout(PATIENCE, ask(broker, user_id))
        .await
        .map_err(|_| Problem::vault_unavailable())??;
    match answer {
        Some(Answer::Quotas(found)) => {
            let quotas = found.quotas.into_iter().map(quota);
            let document = Document {
                user_id,
                quotas: quotas.collect::<Option<_>>().ok_or(Denial::Unusable)?,
            };
            let body = serde_json::to_vec(&document).map_err(|_| Denial::Unusable)?;
            Ok(Bytes::from(body))
        }
        Some(Answer::Denied(denied)) => Err(Denial::from(denied).into()),
        None => Err(Denial::Unusable.into()),
    }
}

async fn ask(broker: &Broker, user_id: &str) -> Result<Option<Answer>, Problem> {
    let _turn = broker.quota_turns.acquire().await;
    broker
        .ask(async |calls| calls.describe_quotas(user_id).await)
        .await
}

/// A quota as callers read it; none when the vault's answer is malformed.
pub(crate) fn quota(found: QuotaUse) -> Option<Quota> {
    let resets_time = found.window_end_time_ms.map(Timestamp::from_millisecond);
    Some(Quota {
        enforcement: if found.enforced { "Enforce" } else { "Warn" },
        limit: found.limit,
        used: found.used,
        remaining: found.limit.saturating_sub(found.used),
        window: found
            .period_s
            .map_or(Window::Lifetime, |period_seconds| Window::Period {
                period_seconds,
            }),
        resets_time: resets_time.transpose().ok()?,
        name: found.name,
        counter: found.counter,
        subject: found.subject,
    })
}
