//! `POST /v1/tokens/access`: the value of a token.

use bursar_wire::v1alpha1::Denial;
use http::HeaderMap;
use hyper::body::{Body, Bytes};
use tokio::time::{Instant, timeout_at};

use super::PATIENCE;
use super::access_request::AccessRequest;
use super::body::read_json;
use super::problem::Problem;
use crate::allowance::holdings::{Outcome, Served};
use crate::allowance::key::EntryKey;
use crate::broker::Broker;

/// Serves one access: syntax, then the caller's JWT, then what is held.
///
/// What is held is served without waiting for anything but the body. Otherwise
/// the vault is asked, once for all that wait for the same, and the caller
/// starts over with what came of it.
pub(crate) async fn access<B>(
    broker: &Broker,
    headers: &HeaderMap,
    body: B,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    let body = read_json(headers, body).await?;
    let request = AccessRequest::parse(&body)?;
    let refused = |problem: Problem| problem.with_asked(asked(&request));
    let key = EntryKey::new(&request.user_id, request.token.as_deref());
    let mut give_up = None;
    loop {
        let now = broker.now();
        // Each time, because the token may expire while the caller waits.
        broker.authenticate(headers, now)?;
        let mut outcome = match broker.serve(&key, &request, now) {
            Served::Body(body) => return Ok(body),
            Served::Refused(denial) => return Err(refused(denial.into())),
            Served::VaultAway => return Err(refused(Problem::vault_unavailable())),
            Served::Asked(outcome) => outcome,
        };
        let give_up = *give_up.get_or_insert_with(|| Instant::now() + PATIENCE);
        match timeout_at(give_up, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Outcome::Refused(denial)) => return Err(refused(denial.clone().into())),
                Some(Outcome::VaultAway) => return Err(refused(Problem::vault_unavailable())),
                Some(Outcome::LookAgain) | None => {}
            },
            // The question itself was dropped: everything starts over.
            Ok(Err(_)) => {}
            Err(_) => return Err(refused(Problem::vault_unavailable())),
        }
    }
}

/// What the vault is told of a request that is refused.
fn asked(request: &AccessRequest<'_>) -> Denial {
    Denial {
        user_id: request.user_id.clone().into_owned(),
        token: request.token.as_deref().unwrap_or_default().to_owned(),
        app_name: request.app_name.clone().into_owned(),
        purpose: request.purpose.clone().into_owned(),
        ..Denial::default()
    }
}
