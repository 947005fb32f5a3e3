//! The HTTP API for the workloads of this pod, on localhost.

pub(crate) mod access;
pub(crate) mod access_request;
pub(crate) mod body;
pub(crate) mod code;
pub(crate) mod connections;
pub(crate) mod count;
pub(crate) mod count_request;
pub(crate) mod decision;
mod gather;
pub(crate) mod problem;
pub(crate) mod quotas;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod syntax;
pub(crate) mod transport;

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

/// How long a caller waits for the vault.
const PATIENCE: Duration = Duration::from_secs(5);

/// What every call ends in.
pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer that nobody keeps.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
