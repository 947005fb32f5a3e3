//! What people ask the vault: who read what, why a request was refused, and to revoke at once.
//!
//! HTTPS with Bursar's own certificate, HTTP/1.1, JSON ([`bursar_wire::people`]); every replica
//! serves it. Who asks shows a service account token of the audience `bursar-cli`, never a
//! credential of their own; what that account may do is the cluster's RBAC. Each query, but for a
//! later page with nothing new on it but queries, and each revocation leaves a record in the
//! tenant's own chain before it is answered, with the person's name as they gave it. Nothing here
//! can read a token's value.

mod answer;
mod call;
mod identity;
mod pace;
mod problem;
mod reviews;
mod server;
mod turns;

use std::sync::Arc;

use bursar_vault::service::VaultService;
use bursar_vault::{Clock, Vault};
use kube::Client;

use crate::metrics::Metrics;
use identity::Identity;
pub(crate) use server::serve;
use turns::Turns;

/// What the calls are answered with.
pub(crate) struct People {
    vault: Vault,
    identity: Identity,
    client: Client,
    /// The operator's.
    namespace: String,
    turns: Turns,
    metrics: Arc<Metrics>,
}

impl People {
    /// Asks `service` about tokens and the API server about rights; `namespace` is the operator's.
    pub(crate) fn new(
        vault: Vault,
        service: VaultService,
        client: Client,
        clock: Arc<dyn Clock>,
        namespace: &str,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            vault,
            client: client.clone(),
            namespace: namespace.to_owned(),
            identity: Identity::new(client, service, clock),
            turns: Turns::new(turns::PATIENCE),
            metrics,
        })
    }
}
