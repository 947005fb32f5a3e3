//! Health, readiness and metrics, on a port that serves nothing else.

use std::rc::Rc;

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Bytes;

use crate::broker::Broker;
use crate::http::{Answer, answer};

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers one request.
pub(crate) async fn handle<B>(broker: Rc<Broker>, request: Request<B>) -> Answer {
    let text =
        |status, text: &'static str| answer(status, TEXT, Bytes::from_static(text.as_bytes()));
    if request.method() != Method::GET {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return refused;
    }
    match request.uri().path() {
        // The answer itself is the proof: the one thread is running.
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if broker.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" if broker.draining.get() => text(StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "waiting for the vault\n"),
        "/metrics" => {
            broker.measure();
            answer(
                StatusCode::OK,
                OPEN_METRICS,
                Bytes::from(broker.metrics.encode()),
            )
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "only /healthz, /readyz and /metrics are here\n",
        ),
    }
}
