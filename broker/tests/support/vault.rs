//! A vault that can fail in every way: it loses answers, goes away, forgets and
//! revokes when a test tells it to, over the real protocol and real TLS.
//!
//! What a vault decides and stores is not its subject: for that there is the
//! real one.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use bursar_wire::tls;
use bursar_wire::v1alpha1::vault_server::VaultServer;
use bursar_wire::v1alpha1::*;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::books::{Books, State, Stored};
use super::certificates::Certificates;
use super::cuttable::Cuttable;

/// The vault, from the test's side.
pub struct FakeVault {
    books: Books,
    certificates: Certificates,
    address: SocketAddr,
    serving: RefCell<Option<Serving>>,
}

/// A runtime of the vault's own: with it end all its connections.
struct Serving(Option<Runtime>);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl FakeVault {
    /// Starts on a free port.
    pub fn start(jwks: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let vault = Self {
            address: listener.local_addr().unwrap(),
            books: Books::new(jwks),
            certificates: Certificates::new(),
            serving: RefCell::default(),
        };
        vault.serve(listener);
        vault
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca_pem
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.books.state()
    }

    /// Stores a value as the next version of a user's token, named and unnamed.
    pub fn store(&self, user: &str, token: &str, value: &str) {
        let mut state = self.state();
        for name in [Some(token.to_owned()), None] {
            let key = (user.to_owned(), name);
            let version = match state.tokens.get(&key) {
                Some(Stored::Value { version, .. }) => version + 1,
                _ => 1,
            };
            let stored = Stored::Value {
                value: value.to_owned(),
                version,
                purposes: None,
            };
            state.tokens.insert(key, stored);
        }
    }

    /// Denies a user's token from now on.
    pub fn deny(&self, user: &str, token: Option<&str>, code: denied::Code) {
        let key = (user.to_owned(), token.map(str::to_owned));
        self.state()
            .tokens
            .insert(key, Stored::Denied(code, Vec::new()));
    }

    /// Ends the connections and listens no more.
    pub fn go_away(&self) {
        self.serving.take();
        self.state().watchers.clear();
    }

    /// Listens again at the same address.
    pub fn come_back(&self) {
        // The address is free once the old runtime has let go of it.
        let listener = (0..1_000).find_map(|_| {
            let listener = TcpListener::bind(self.address).ok();
            if listener.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            listener
        });
        self.serve(listener.unwrap());
    }

    /// Forgets the incarnation, as when another process of the pod attached.
    pub fn fence(&self) {
        self.fence_silently();
        for watcher in self.state().watchers.drain(..) {
            let _ = watcher.send(Err(Status::unauthenticated("fenced")));
        }
    }

    /// The same at another replica than the one the broker watches.
    pub fn fence_silently(&self) {
        let mut state = self.state();
        state.incarnation += 1;
        state.last_request = None;
        state.last_report = (0, Vec::new());
    }

    pub fn lose_grant_answers(&self, count: u32) {
        self.state().faults.lost_grants = count;
    }

    pub fn lose_report_answers(&self, count: u32) {
        self.state().faults.lost_reports = count;
    }

    pub fn fail_grants(&self, count: u32) {
        self.state().faults.failing_grants = count;
    }

    pub fn refuse_attaches(&self, count: u32) {
        self.state().faults.refused_attaches = count;
    }

    /// Believes no token, or the pod's again.
    pub fn refuse_tokens(&self, refuse: bool) {
        self.state().faults.tokens_refused = refuse;
    }

    /// Lets attaches wait, or go on.
    pub fn hold_attaches(&self, hold: bool) {
        self.books.attach_gate.send_replace(!hold);
    }

    /// Lets grants wait, or go on.
    pub fn hold_grants(&self, hold: bool) {
        self.books.gate.send_replace(!hold);
    }

    /// Lets answers to grants wait after they are booked, or go on.
    pub fn hold_answers(&self, hold: bool) {
        self.books.answer_gate.send_replace(!hold);
    }

    /// Sends an event to whoever watches.
    pub fn push(&self, event: event::Event) {
        let event = Event { event: Some(event) };
        self.state()
            .watchers
            .retain(|watcher| watcher.send(Ok(event.clone())).is_ok());
    }

    /// Tells the next watcher before it is in sync.
    pub fn push_on_sync(&self, event: event::Event) {
        self.state().backlog.push_back(Event { event: Some(event) });
    }

    pub fn recall_all(&self) -> Vec<String> {
        let allowance_ids = self.open();
        self.push(event::Event::Recall(Recall {
            allowance_ids: allowance_ids.clone(),
        }));
        allowance_ids
    }

    /// Ids of allowances that are not closed.
    pub fn open(&self) -> Vec<String> {
        let state = self.state();
        let open = state.allowances.iter().filter(|(_, booked)| !booked.closed);
        open.map(|(id, _)| id.clone()).collect()
    }

    pub fn calls(&self, name: &str) -> u32 {
        self.state().calls.get(name).copied().unwrap_or_default()
    }

    /// Accesses on record.
    pub fn recorded(&self) -> u64 {
        self.state()
            .records
            .iter()
            .map(|record| u64::from(record.count))
            .sum()
    }

    /// Waits until the books show what the test waits for.
    pub async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let waiting = async {
            loop {
                let changed = self.books.changed.notified();
                if condition(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "still waiting for: {what}");
    }

    fn serve(&self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let config = tls::server_config(self.certificates.resolver()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let service = VaultServer::new(self.books.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let cut = self.books.cut.clone();
        let (accepted, connections) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                if let Ok(stream) = tls::accept(&acceptor, tcp).await {
                    let stream = Cuttable::new(stream, cut.subscribe());
                    let _ = accepted.send(Ok::<_, std::io::Error>(stream));
                }
            }
        });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(UnboundedReceiverStream::new(connections)),
        );
        self.serving.replace(Some(Serving(Some(runtime))));
    }
}
