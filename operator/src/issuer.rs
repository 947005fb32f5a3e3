//! Who signs service account tokens, and with which keys: read from the API server, and read
//! again from time to time, because keys are rotated.

use std::time::Duration;

use bursar_vault::service::WorkloadIssuer;
use http::Request;
use kube::Client;
use serde::Deserialize;
use tokio::sync::watch;

use crate::readiness::{Part, Readiness};

/// OpenID Connect Discovery 1.0, section 4.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The keys themselves (RFC 7517), where every API server has them: the `jwks_uri` of the
/// discovery document may be an address that only others can reach.
const KEYS: &str = "/openid/v1/jwks";
const RETRY: Duration = Duration::from_secs(2);

/// Why the issuer is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    /// The API server does not say.
    #[error("GET {path}: {source}")]
    Kubernetes {
        /// Which document.
        path: &'static str,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The discovery document is not one.
    #[error("GET {DISCOVERY}: the answer has no issuer in it")]
    NoIssuer,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

/// Reads both documents.
///
/// # Errors
/// When the API server does not give them.
pub(crate) async fn read(client: &Client) -> Result<WorkloadIssuer, IssuerError> {
    let discovery = get(client, DISCOVERY).await?;
    let discovery: Discovery =
        serde_json::from_str(&discovery).map_err(|_| IssuerError::NoIssuer)?;
    let jwks = get(client, KEYS).await?;
    Ok(WorkloadIssuer {
        issuer: discovery.issuer,
        jwks,
    })
}

async fn get(client: &Client, path: &'static str) -> Result<String, IssuerError> {
    let failed = |source| IssuerError::Kubernetes {
        path,
        source: Box::new(source),
    };
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| failed(kube::Error::HttpError(error)))?;
    client.request_text(request).await.map_err(failed)
}

/// Reads until it succeeds.
pub(crate) async fn read_until_known(client: &Client, readiness: &Readiness) -> WorkloadIssuer {
    loop {
        match read(client).await {
            Ok(issuer) => {
                readiness.ready(Part::Issuer);
                return issuer;
            }
            Err(error) => readiness.not_ready(Part::Issuer, error.to_string()),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads again every `pause` and tells whoever listens of a change.
pub(crate) async fn keep_fresh(
    client: Client,
    issuer: watch::Sender<WorkloadIssuer>,
    pause: Duration,
) {
    loop {
        tokio::time::sleep(pause).await;
        match read(&client).await {
            Ok(fresh) => {
                issuer.send_if_modified(|known| {
                    let changed = *known != fresh;
                    *known = fresh;
                    changed
                });
            }
            // The keys known so far go on: a rotated key is valid long before it signs.
            Err(error) => tracing::warn!(%error, "the token signing keys were not read again"),
        }
    }
}
