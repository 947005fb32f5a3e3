//! A way to the API server on which some of its answers can be held back.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

type Body = UnsyncBoxBody<Bytes, kube::Error>;

/// What binds the checkpoints of the audit.
const CHECKPOINT: &str = "/api/v1/namespaces/bursar-system/configmaps/bursar-audit-checkpoint";

/// Passes requests on to the API server, with the rights of whom it was made for.
pub(crate) struct Relay {
    address: SocketAddr,
    flows: watch::Sender<Flows>,
    held: Arc<AtomicUsize>,
}

/// What is answered.
#[derive(Clone, Copy)]
struct Flows {
    namespaces: bool,
    checkpoint: bool,
}

impl Relay {
    /// One that lives as long as the runtime it is made in.
    pub(crate) async fn to(api_server: kube::Config) -> Self {
        let client = Client::try_from(api_server).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let flows = watch::Sender::new(Flows {
            namespaces: true,
            checkpoint: true,
        });
        let held = Arc::new(AtomicUsize::new(0));
        let means = (client, flows.subscribe(), Arc::clone(&held));
        tokio::spawn(relay_all(listener, means));
        Self {
            address,
            flows,
            held,
        }
    }

    /// How to reach it.
    pub(crate) fn config(&self) -> kube::Config {
        kube::Config::new(format!("http://{}", self.address).parse().unwrap())
    }

    /// The watch of namespaces tells nothing from now on.
    pub(crate) fn hold_namespaces(&self) {
        self.flows.send_modify(|flows| flows.namespaces = false);
    }

    /// It tells all that it has not told yet.
    pub(crate) fn let_namespaces_through(&self) {
        self.flows.send_modify(|flows| flows.namespaces = true);
    }

    /// Who asks for what binds the checkpoints waits from now on.
    pub(crate) fn hold_checkpoint(&self) {
        self.flows.send_modify(|flows| flows.checkpoint = false);
    }

    /// How often somebody did.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// They are answered.
    pub(crate) fn let_checkpoint_through(&self) {
        self.flows.send_modify(|flows| flows.checkpoint = true);
    }
}

type Means = (Client, watch::Receiver<Flows>, Arc<AtomicUsize>);

async fn relay_all(listener: TcpListener, means: Means) {
    while let Ok((stream, _)) = listener.accept().await {
        let means = means.clone();
        let service = service_fn(move |request| {
            let means = means.clone();
            async move { Ok::<_, Infallible>(relay(request, means).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn relay(request: Request<Incoming>, (client, mut flows, held): Means) -> Response<Body> {
    if request.uri().path() == CHECKPOINT && !flows.borrow().checkpoint {
        held.fetch_add(1, Ordering::SeqCst);
        // An error: the relay is gone, and what is left may go on.
        let _ = flows.wait_for(|flows| flows.checkpoint).await;
    }
    let watches = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    let is_held = watches && request.uri().path() == "/api/v1/namespaces";
    let (mut head, body) = request.into_parts();
    head.headers.remove(HOST);
    let body = body.collect().await.unwrap().to_bytes();
    let request = Request::from_parts(head, kube::client::Body::from(body));
    match client.send(request).await {
        Ok(response) if is_held => response.map(|body| held_back(body, flows)),
        Ok(response) => response.map(BodyExt::boxed_unsync),
        Err(error) => {
            let body = Full::from(error.to_string()).map_err(|never| match never {});
            let mut response = Response::new(body.boxed_unsync());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

/// The same, but nothing while it is held.
fn held_back(body: kube::client::Body, flows: watch::Receiver<Flows>) -> Body {
    let frames = BodyStream::new(body).then(move |frame| {
        let mut flows = flows.clone();
        async move {
            let _ = flows.wait_for(|flows| flows.namespaces).await;
            frame
        }
    });
    StreamBody::new(frames).boxed_unsync()
}
