//! Tokens that were recalled by somebody else than these controllers: a person, at any replica.
//!
//! The controllers' own recalls are read here too; such a token finds nothing to do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bursar_crds::StoredToken;
use bursar_vault::{Recalled, Recalls, Vault};

use crate::context::Context;
use crate::directory::Listed;

const RETRY: Duration = Duration::from_secs(2);

/// Where to begin: taken before anything is reconciled, so that nothing is missed.
pub(crate) async fn begin(vault: &Vault) -> Recalls {
    loop {
        match vault.recalls().await {
            Ok(recalls) => return recalls,
            Err(error) => tracing::warn!(%error, "the controllers wait"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reconciles what was recalled, for as long as it is polled.
pub(crate) async fn wake_recalled(vault: Vault, mut since: Recalls, context: Arc<Context>) {
    let directory = &context.directory;
    loop {
        tokio::time::sleep(context.timing.recall_check).await;
        match vault.recalled(&mut since).await {
            Ok(Recalled::Tokens(tokens)) => {
                let uids: HashSet<String> = tokens.iter().map(ToString::to_string).collect();
                directory.tokens_recalled(&uids);
            }
            Ok(Recalled::Any) => {
                for place in StoredToken::places(directory) {
                    StoredToken::wake(directory, &place);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the log of changes cannot be read; trying again");
            }
        }
    }
}
