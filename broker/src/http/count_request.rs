//! What `POST /v1/quotas/{user_id}/{counter}/consume` and `release` are sent with.

use bursar_wire::v1alpha1::CountRequest;
use http::HeaderMap;
use hyper::body::{Body, Bytes};
use serde::Deserialize;
use serde_json::Value;

use super::body::{position, read_json};
use super::problem::Problem;
use super::syntax::{COUNTER_RULE, KEY_RULE, NAME_RULE, idempotency_key, is_name, is_own_counter};

const KEY_HEADER: &str = "Idempotency-Key";
/// The most units of one request.
const MOST_UNITS: u64 = 1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    amount: Option<Value>,
}

/// Reads one request: the path, the header, then the body.
///
/// # Errors
/// A [`Problem`] that names what is at fault.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    user_id: &str,
    counter: &str,
) -> Result<CountRequest, Problem>
where
    B: Body<Data = Bytes>,
{
    if !is_name(user_id) {
        return Err(Problem::invalid("user_id", NAME_RULE));
    }
    if !is_own_counter(counter) {
        return Err(Problem::invalid("counter", COUNTER_RULE));
    }
    let mut keys = headers.get_all(KEY_HEADER).iter();
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key.to_str().ok().and_then(idempotency_key),
        _ => None,
    };
    let key = key.ok_or_else(|| Problem::invalid(KEY_HEADER, KEY_RULE))?;
    // Nothing has no type.
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        read_json(headers, body).await?
    };
    Ok(CountRequest {
        user_id: user_id.to_owned(),
        counter: counter.to_owned(),
        amount: amount(&body)?,
        idempotency_key: key.to_owned(),
    })
}

/// The amount in a body; one unit where it is left out.
fn amount(body: &[u8]) -> Result<u64, Problem> {
    if body.is_empty() {
        return Ok(1);
    }
    let members: Members = serde_json::from_slice(body).map_err(|error| {
        let at = position(&error);
        let rule = "must be empty, or one JSON object with no members but amount, once";
        Problem::invalid("body", &format!("{rule}{at}"))
    })?;
    members.amount.map_or(Ok(1), |amount| {
        let amount = amount.as_u64();
        amount
            .filter(|amount| (1..=MOST_UNITS).contains(amount))
            .ok_or_else(|| {
                Problem::invalid("amount", "must be a whole number from 1 to 1000000000")
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::code::Code;

    #[test]
    fn an_amount_is_a_whole_number_from_one_to_a_billion_and_one_unless_told() {
        for (body, expected) in [
            ("", 1),
            ("{}", 1),
            (r#"{"amount":null}"#, 1),
            (r#"{"amount":1}"#, 1),
            (r#"{"amount":1000000000}"#, 1_000_000_000),
        ] {
            assert_eq!(amount(body.as_bytes()).ok(), Some(expected), "{body}");
        }
        for body in [
            r#"{"amount":0}"#,
            r#"{"amount":-1}"#,
            r#"{"amount":1.5}"#,
            r#"{"amount":1000000001}"#,
            r#"{"amount":18446744073709551616}"#,
            r#"{"amount":"1"}"#,
            r#"{"amount":[1]}"#,
            r#"{"amount":1,"amount":2}"#,
            r#"{"units":1}"#,
            "[]",
            "1",
            "null",
            r#"{"amount":1} {}"#,
        ] {
            let problem = amount(body.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidRequest, "{body}");
        }
    }
}
