//! A running broker, and the application beside it.

use std::net::SocketAddr;

use bursar_broker::{Sidecar, SidecarError};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use crate::support::http::{Answer, request, send};
use crate::support::until;

/// A running broker.
pub(crate) struct Broker {
    address: SocketAddr,
    /// The pod's JWT.
    jwt: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), SidecarError>>,
}

impl Broker {
    /// Runs it, and waits until it is ready.
    pub(crate) async fn start(sidecar: Sidecar, jwt: String) -> Self {
        let (address, admin) = (sidecar.addresses()[0], sidecar.admin_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = spawn_local(sidecar.run(async { drop(stopped.await) }));
        let ready = request("GET", "/readyz", &[("Host", "localhost")], "");
        until("the broker is ready", async || {
            send(admin, &ready).await.status == 200
        })
        .await;
        Self {
            address,
            jwt,
            stop,
            running,
        }
    }

    /// Calls with these headers beside those that are always needed.
    async fn call(&self, method: &str, path: &str, more: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.jwt);
        let mut headers = vec![("Host", "localhost"), ("Authorization", &*bearer)];
        headers.extend(more);
        send(self.address, &request(method, path, &headers, body)).await
    }

    pub(crate) async fn access(&self, user: &str, token: Option<&str>) -> Answer {
        self.access_for(user, token, "nightly sync").await
    }

    pub(crate) async fn access_for(
        &self,
        user: &str,
        token: Option<&str>,
        purpose: &str,
    ) -> Answer {
        let mut body = json!({"user_id": user, "app_name": "ci", "purpose": purpose});
        if let Some(token) = token {
            body["token"] = token.into();
        }
        let json = [("Content-Type", "application/json")];
        self.call("POST", "/v1/tokens/access", &json, &body.to_string())
            .await
    }

    pub(crate) async fn value(&self, user: &str, token: &str) -> Option<String> {
        let answer = self.access(user, Some(token)).await;
        let document: Value = answer.json();
        (answer.status == 200).then(|| document["token"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn status(&self, user: &str) -> Answer {
        let path = format!("/v1/tokens/status/{user}");
        self.call("GET", &path, &[], "").await
    }

    /// Takes or gives back one unit of a counter of the workload's own.
    pub(crate) async fn count(&self, user: &str, counter: &str, call: &str, key: &str) -> Answer {
        let path = format!("/v1/quotas/{user}/{counter}/{call}");
        let key = [("Idempotency-Key", key)];
        self.call("POST", &path, &key, "").await
    }

    pub(crate) async fn drain(self) {
        drop(self.stop);
        self.running.await.unwrap().unwrap();
    }
}
