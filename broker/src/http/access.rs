//! `POST /v1/tokens/access`: the value of a token.

use bursar_wire::v1alpha1::Denial;
use http::request::Parts;
use hyper::body::{Body, Bytes};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::PATIENCE;
use super::access_request::AccessRequest;
use super::body::read_json;
use super::problem::Problem;
use crate::allowance::holdings::{Outcome, Served};
use crate::allowance::key::EntryKey;
use crate::broker::Broker;
use crate::jwt::bearer;

/// Serves one access: syntax, then the caller's JWT, then what is held.
///
/// What is held is served without waiting for anything but the body. Otherwise
/// the vault is asked, once for all that wait for the same, and the caller
/// starts over with what came of it.
pub(crate) async fn access<B>(broker: &Broker, parts: Parts, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    let body = read_json(&parts.headers, body).await?;
    let request = AccessRequest::parse(&body)?;
    let jwt = bearer(&parts.headers)?;
    let key = EntryKey::new(&request.user_id, request.token.as_deref());
    let outcome = match attempt(broker, jwt, &key, &request)? {
        Attempt::Served(body) => return Ok(body),
        Attempt::Asked(outcome) => outcome,
    };
    let jwt = Zeroizing::new(jwt.to_vec());
    let request = request.into_owned();
    // Both are slices of the buffer that the request was read into. Kept while the caller
    // waits, each connection would have two such buffers.
    drop((parts, body));
    // Boxed, so that the future of what is served at once stays small: hyper moves it.
    Box::pin(wait(broker, &jwt, &key, &request, outcome)).await
}

/// What a look at what is held came to, for a caller who is not refused.
enum Attempt {
    Served(Bytes),
    Asked(watch::Receiver<Option<Outcome>>),
}

fn attempt(
    broker: &Broker,
    jwt: &[u8],
    key: &EntryKey,
    request: &AccessRequest<'_>,
) -> Result<Attempt, Problem> {
    let now = broker.now();
    broker.authenticate(jwt, now)?;
    match broker.serve(key, request, now) {
        Served::Body(body) => Ok(Attempt::Served(body)),
        Served::Asked(outcome) => Ok(Attempt::Asked(outcome)),
        Served::Refused(denial) => Err(refused(denial.into(), request)),
        Served::VaultAway => Err(refused(Problem::vault_unavailable(), request)),
    }
}

async fn wait(
    broker: &Broker,
    jwt: &[u8],
    key: &EntryKey,
    request: &AccessRequest<'_>,
    mut outcome: watch::Receiver<Option<Outcome>>,
) -> Result<Bytes, Problem> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let problem = match timeout_at(give_up, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Outcome::Refused(denial)) => Some(denial.clone().into()),
                Some(Outcome::VaultAway) => Some(Problem::vault_unavailable()),
                Some(Outcome::LookAgain) | None => None,
            },
            // The question itself was dropped: everything starts over.
            Ok(Err(_)) => None,
            Err(_) => Some(Problem::vault_unavailable()),
        };
        if let Some(problem) = problem {
            return Err(refused(problem, request));
        }
        // With the JWT, because it may have expired meanwhile.
        outcome = match attempt(broker, jwt, key, request)? {
            Attempt::Served(body) => return Ok(body),
            Attempt::Asked(outcome) => outcome,
        };
    }
}

/// The refusal of a caller whose JWT was verified: the vault is told what was asked for.
fn refused(problem: Problem, request: &AccessRequest<'_>) -> Problem {
    problem.with_asked(asked(request))
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use bursar_seal::SystemRandom;
    use futures::poll;
    use http::{HeaderValue, Request};
    use http_body_util::Full;

    use super::*;
    use crate::allowance::testing::ManualClock;
    use crate::clock::Clock as _;
    use crate::jwt::issuer::{Issuer, good_claims};
    use crate::jwt::scene::authenticator;

    /// Bytes that were received: how many pieces of them are left can be counted.
    struct Received(Arc<str>);

    impl AsRef<[u8]> for Received {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    #[tokio::test]
    async fn a_caller_who_waits_keeps_nothing_of_what_was_received() {
        let clock = ManualClock::new();
        let issuer = Issuer::new();
        let jwt = issuer.token(&good_claims(clock.wall().0 / 1_000));
        let broker = Broker::new(Box::new(clock), Box::new(SystemRandom));
        *broker.authenticator.borrow_mut() = Some(authenticator(&issuer));
        broker.holdings.borrow_mut().attached(broker.now().boot);

        let text = r#"{"user_id": "ana", "app_name": "ci", "purpose": "sync"}"#;
        let received: Arc<str> = text.into();
        let body = Bytes::from_owner(Received(Arc::clone(&received)));
        let authorization: Arc<str> = format!("Bearer {jwt}").into();
        let header = Bytes::from_owner(Received(Arc::clone(&authorization)));
        let mut request = Request::new(());
        let headers = request.headers_mut();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert(
            "authorization",
            HeaderValue::from_maybe_shared(header).unwrap(),
        );
        let (parts, ()) = request.into_parts();

        let mut access = pin!(access(&broker, parts, Full::new(body)));
        assert!(poll!(access.as_mut()).is_pending());
        let asked = broker.holdings.borrow_mut().next_grant(broker.now().boot);
        assert_eq!(asked.expect("the vault is asked").user_id, "ana");
        assert_eq!(Arc::strong_count(&received), 1, "of the body");
        assert_eq!(Arc::strong_count(&authorization), 1, "of the header");
    }
}
