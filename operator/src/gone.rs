//! Objects that went without their finalizer doing its work: somebody took it off.
//!
//! Their rows would go on being served, so every removal that is heard of ends the rows of that
//! UID once more; after an orderly deletion there is nothing left to end. What is removed while
//! no operator runs is not heard of here.

use std::sync::Arc;
use std::time::Duration;

use bursar_crds::{StoredToken, TokenUser};
use bursar_vault::Category;
use bursar_vault::rows::DeletionPolicy;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::context::Context;
use crate::controller::Reconciled;
use crate::failure::Failure;
use crate::metrics::Kind;

/// Between two attempts; the database is away, most likely.
const RETRY: Duration = Duration::from_secs(2);

/// One life of an object that is over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Gone {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) uid: Uuid,
}

/// Ends the rows of what is gone, one after the other, for as long as it is polled.
pub(crate) async fn end_rows(mut gone: UnboundedReceiver<Gone>, context: Arc<Context>) {
    while let Some(gone) = gone.recv().await {
        while let Err(failure) = end(&gone, &context).await {
            if failure.is_superseded() {
                context.superseded.stop();
                return;
            }
            if is_final(&failure) {
                tracing::warn!(?gone, "nothing to end: {failure}");
                break;
            }
            tracing::warn!(?gone, "rows of a removed object wait: {failure}");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn end(gone: &Gone, context: &Context) -> Result<(), Failure> {
    let Some(tenant) = context.tenant(&gone.namespace).await? else {
        return Ok(());
    };
    // Whatever the policy: perhaps nobody meant to delete it.
    let policy = Some(DeletionPolicy::Retain);
    match gone.kind {
        Kind::TokenUser => TokenUser::delete_rows(policy, gone.uid, &tenant, context).await?,
        Kind::StoredToken => StoredToken::delete_rows(policy, gone.uid, &tenant, context).await?,
    }
    Ok(())
}

/// Whether there is nothing to end: the namespace is gone, or its rows are believed by nobody.
fn is_final(failure: &Failure) -> bool {
    match failure {
        Failure::NamespaceNotListed(_) | Failure::ForeignMetadata => true,
        Failure::Vault(error) => {
            matches!(error.category(), Category::Refused | Category::Integrity)
        }
        Failure::Kubernetes(_) => false,
    }
}
