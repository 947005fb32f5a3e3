//! From a request to its answer.

use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::{Body, Bytes};
use tokio::time::Instant;

use super::access::access;
use super::code::Code;
use super::count::{Call, count};
use super::decision::DecisionId;
use super::problem::Problem;
use super::quotas;
use super::status::status;
use super::{Answer, answer, transport};
use crate::broker::Broker;

/// Answers one request.
pub(crate) async fn handle<B>(broker: &Broker, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
{
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let answer = match route(broker, parts, body).await {
        Ok(body) => {
            broker.metrics.served.inc();
            answer(StatusCode::OK, "application/json", body)
        }
        Err(mut problem) => {
            let id = DecisionId::new(&*broker.random);
            broker.refused(&id, problem.code(), problem.take_asked());
            problem.into_answer(&id)
        }
    };
    broker.metrics.answered(began.elapsed());
    answer
}

/// Transport comes first, so that not even the list of calls is told to others.
async fn route<B>(broker: &Broker, parts: Parts, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    transport::check(&parts.uri, &parts.headers)?;
    let path = parts.uri.path();
    if path == "/v1/tokens/access" {
        only(&Method::POST, "POST", &parts)?;
        access(broker, parts, body).await
    } else if let Some(user_id) = path.strip_prefix("/v1/tokens/status/") {
        only(&Method::GET, "GET", &parts)?;
        // Boxed, so that the future of the common call stays small: hyper moves it.
        Box::pin(status(broker, &parts.headers, user_id)).await
    } else if let Some(rest) = path.strip_prefix("/v1/quotas/") {
        match rest.split_once('/') {
            None => {
                only(&Method::GET, "GET", &parts)?;
                Box::pin(quotas::describe(broker, &parts.headers, rest)).await
            }
            Some((user_id, rest)) => {
                let (counter, call) = rest.split_once('/').ok_or_else(no_such_call)?;
                let call = Call::named(call).ok_or_else(no_such_call)?;
                only(&Method::POST, "POST", &parts)?;
                let count = count(broker, &parts.headers, body, (user_id, counter, call));
                Box::pin(count).await
            }
        }
    } else {
        Err(no_such_call())
    }
}

fn no_such_call() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is no such call: there are POST /v1/tokens/access, GET /v1/tokens/status/{user_id}, \
         GET /v1/quotas/{user_id}, and POST /v1/quotas/{user_id}/{counter}/consume and release; \
         health and metrics are on another port",
    )
}

/// The method must fit, and there must be no query: what is in a URL ends up in
/// logs, and no call takes one.
fn only(method: &Method, name: &'static str, parts: &Parts) -> Result<(), Problem> {
    if parts.method != *method {
        return Err(Problem::method_not_allowed(name));
    }
    if parts.uri.query().is_some() {
        return Err(Problem::invalid(
            "query",
            "must be left out: what is in a URL ends up in logs",
        ));
    }
    Ok(())
}
