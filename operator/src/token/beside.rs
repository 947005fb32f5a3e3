//! What the vault knows of a token beside its rows: who still holds what was taken back, and
//! whether a limit that all its readers share is used up.

use bursar_crds::StoredToken;
use bursar_vault::{Drain, QuotaName, Serving, Tenant, TokenState, Vault, VaultError};

use super::validate::Valid;

/// That, as far as it matters to the token's status.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// How far brokers have let go of dead versions.
    pub(super) drain: Drain,
    /// The TokenQuota that is used up.
    pub(super) exhausted: Option<QuotaName>,
}

impl Beside {
    /// Asks the vault what the token's state leaves open; nothing of most tokens.
    pub(super) async fn ask(
        vault: &Vault,
        tenant: &Tenant,
        token: &StoredToken,
        valid: &Valid,
        state: &TokenState,
    ) -> Result<Self, VaultError> {
        let id = valid.spec.id;
        let is_served = state.serving == Serving::Serving;
        let drain = if may_drain(token, state) {
            vault.drain(tenant, id).await?
        } else {
            Drain::default()
        };
        let exhausted = if is_served {
            let tokens = [(id, valid.spec.user_uid)];
            vault.exhausted(tenant, &tokens).await?.remove(&id)
        } else {
            None
        };
        Ok(Self { drain, exhausted })
    }
}

/// Whether any version may be dead, or was when the status was written.
fn may_drain(token: &StoredToken, state: &TokenState) -> bool {
    let told = token.status.as_ref();
    let is_dead = state.serving != Serving::Serving && state.newest_version.is_some();
    let through = state.through_version.max(state.api_through_version);
    is_dead || through.is_some() || told.is_some_and(|told| told.taken_back_time.is_some())
}
