//! The bare server: what hyper alone can do with the same request and answer.
//!
//! It reads what the broker reads (a bearer header, a JSON body with the same
//! fields) and gives back one fixed answer, whose headers and body the
//! benchmark has taken from the broker. Like the broker it runs on one thread.

use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use bursar_bench::answer::Answer;
use clap::Parser;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

/// Serves one fixed answer on 127.0.0.1.
#[derive(Parser)]
struct Flags {
    /// The port to listen on.
    #[arg(long)]
    port: u16,
    /// The answer to give, as the benchmark has written it.
    #[arg(long)]
    answer: PathBuf,
}

/// The body of `POST /v1/tokens/access`: parsed in full, as the broker must.
#[derive(Deserialize)]
struct AccessRequest<'a> {
    user_id: &'a str,
    app_name: &'a str,
    purpose: &'a str,
    token: Option<&'a str>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let answer: Answer = serde_json::from_slice(&std::fs::read(flags.answer)?)?;
    let headers = answer.header_map()?;
    let body = Bytes::from(answer.body);

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (headers, body) = (headers.clone(), body.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| respond(request, &headers, &body));
            // A client that goes away in the middle is no concern of this server.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let bearer = request
        .headers()
        .get(AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"Bearer "));
    let complete = match request.into_body().collect().await {
        Ok(collected) => serde_json::from_slice(&collected.to_bytes())
            .is_ok_and(|request: AccessRequest<'_>| request.is_complete()),
        Err(_) => false,
    };
    let mut response = Response::new(Full::new(body.clone()));
    if bearer && complete {
        response.headers_mut().clone_from(headers);
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

impl AccessRequest<'_> {
    fn is_complete(&self) -> bool {
        !self.user_id.is_empty()
            && !self.app_name.is_empty()
            && !self.purpose.is_empty()
            && self.token.is_none_or(|token| !token.is_empty())
    }
}
