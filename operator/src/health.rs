//! `/healthz`, `/readyz` and `/metrics` over plain HTTP.
//!
//! Whoever can reach the port may read them: nothing here names a user, a token
//! or a namespace.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// More than a cluster's probes and scrapers open at once.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the three pages are made from.
#[derive(Clone)]
pub(crate) struct Pages {
    /// What is still missing.
    pub(crate) readiness: Arc<Readiness>,
    /// What was counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// Serves the pages until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped with this future, and the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pages = pages.clone();
        connections.spawn(async move {
            serve_connection(stream, pages).await;
            drop(slot);
        });
    }
}

async fn serve_connection(stream: TcpStream, pages: Pages) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = pages.answer(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    // A probe that hangs up early is no failure of ours.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => match self.readiness.report() {
                missing if missing.is_empty() => text(StatusCode::OK, "ok\n".to_owned()),
                missing => text(StatusCode::SERVICE_UNAVAILABLE, missing),
            },
            "/metrics" => match self.metrics.encode() {
                Ok(metrics) => {
                    let mut response = text(StatusCode::OK, metrics);
                    response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
                    response
                }
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "not text\n".to_owned()),
            },
            _ => text(
                StatusCode::NOT_FOUND,
                "/healthz, /readyz or /metrics\n".to_owned(),
            ),
        }
    }
}

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, StatusCode};

    use super::Pages;
    use crate::metrics::Metrics;
    use crate::readiness::{Part, Readiness};

    #[test]
    fn readyz_follows_readiness_and_healthz_does_not() {
        let pages = Pages {
            readiness: Arc::new(Readiness::waiting_for(&[Part::Database])),
            metrics: Arc::new(Metrics::new()),
        };
        let status = |path| pages.answer(&Method::GET, path).status();
        assert_eq!(status("/readyz"), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status("/healthz"), StatusCode::OK);
        pages.readiness.ready(Part::Database);
        assert_eq!(status("/readyz"), StatusCode::OK);
        assert_eq!(status("/metrics"), StatusCode::OK);
        assert_eq!(status("/debug"), StatusCode::NOT_FOUND);
        assert_eq!(
            pages.answer(&Method::POST, "/readyz").status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
