//! What people ask the vault: who read what, why a request was refused, and to revoke at once.
//!
//! HTTPS with Bursar's own certificate, HTTP/1.1, JSON ([`bursar_wire::people`]); every replica
//! serves it. Who asks shows a service account token of the audience `bursar-cli`, never a
//! credential of their own; what that account may do is the cluster's RBAC. Each query and each
//! revocation leaves a record in the tenant's own chain before it is answered, with the person's
//! name as they gave it. Nothing here can read a token's value.

mod answer;
mod call;
mod identity;
mod problem;
mod server;

use std::sync::Arc;

use bursar_vault::service::VaultService;
use bursar_vault::{Clock, Vault};
use kube::Client;

use identity::Identity;
pub(crate) use server::serve;

/// What the calls are answered with.
pub(crate) struct People {
    vault: Vault,
    identity: Identity,
}

impl People {
    /// Asks `service` about tokens and the API server about rights.
    pub(crate) fn new(
        vault: Vault,
        service: VaultService,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let identity = Identity::new(client, service, clock);
        Arc::new(Self { vault, identity })
    }
}
