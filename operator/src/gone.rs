//! Objects that went without their finalizer doing its work: somebody took it off.
//!
//! Their rows would stay in force, so every removal that is heard of ends the rows of that
//! UID once more; after an orderly deletion there is nothing left to end. What is removed while
//! no operator runs is not heard of here.

use std::sync::Arc;
use std::time::Duration;

use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_seal::Random;
use bursar_vault::Category;
use bursar_vault::rows::DeletionPolicy;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::controller::Reconciled;
use crate::failure::Failure;
use crate::metrics::Kind;

/// The first pause after a failure; the database is away, most likely.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest: what waits is still served, so not as long as for other work.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// One life of an object that is over.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Gone {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) uid: Uuid,
}

/// Ends the rows of what is gone, one after the other, for as long as it is polled.
pub(crate) async fn end_rows(
    gone: UnboundedReceiver<Gone>,
    context: Arc<Context>,
    random: Arc<dyn Random>,
) {
    let mut line = Line::new(gone, Backoff::new(FIRST_RETRY, LONGEST_RETRY, random));
    while let Some(gone) = line.next().await {
        match end(&gone, &context).await {
            Ok(()) => line.done(&gone),
            Err(failure) if failure.is_superseded() => {
                context.superseded.stop();
                return;
            }
            Err(failure) if is_final(&failure) => {
                tracing::warn!(?gone, "nothing to end: {failure}");
                line.done(&gone);
            }
            Err(failure) => {
                tracing::warn!(?gone, "rows of a removed object wait: {failure}");
                line.step_aside(gone);
            }
        }
    }
}

/// What is to be ended. What failed steps aside for a while, so that it does not keep the others
/// from their turn; nothing is given up, because it would go on being served.
struct Line {
    gone: UnboundedReceiver<Gone>,
    aside: FuturesUnordered<BoxFuture<'static, Gone>>,
    backoff: Backoff<Gone>,
}

impl Line {
    fn new(gone: UnboundedReceiver<Gone>, backoff: Backoff<Gone>) -> Self {
        Self {
            gone,
            aside: FuturesUnordered::new(),
            backoff,
        }
    }

    /// Whose turn it is; `None` when nothing waits and nothing more can come.
    async fn next(&mut self) -> Option<Gone> {
        tokio::select! {
            Some(gone) = self.gone.recv() => Some(gone),
            Some(gone) = self.aside.next() => Some(gone),
            else => None,
        }
    }

    /// It is over.
    fn done(&self, gone: &Gone) {
        self.backoff.succeeded(gone);
    }

    /// It gets another turn after a pause, which is longer each time.
    fn step_aside(&self, gone: Gone) {
        let pause = tokio::time::sleep(self.backoff.failed(&gone));
        self.aside.push(pause.map(|()| gone).boxed());
    }
}

async fn end(gone: &Gone, context: &Context) -> Result<(), Failure> {
    let Some(tenant) = context.tenant(&gone.namespace).await? else {
        return Ok(());
    };
    // Whatever the policy: perhaps nobody meant to delete it.
    let policy = Some(DeletionPolicy::Retain);
    let (uid, namespace) = (gone.uid, gone.namespace.as_str());
    match gone.kind {
        Kind::TokenUser => TokenUser::delete_rows(policy, uid, &tenant, namespace, context).await,
        Kind::StoredToken => {
            StoredToken::delete_rows(policy, uid, &tenant, namespace, context).await
        }
        Kind::TokenQuota => TokenQuota::delete_rows(policy, uid, &tenant, namespace, context).await,
    }?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bursar_seal::SystemRandom;
    use tokio::sync::mpsc::unbounded_channel;
    use uuid::Uuid;

    use super::{Gone, Line};
    use crate::backoff::Backoff;
    use crate::metrics::Kind;

    #[tokio::test]
    async fn what_fails_keeps_nothing_behind_it_from_its_turn_and_is_tried_until_it_is_done() {
        let (queue, waiting) = unbounded_channel();
        for number in 1..=3 {
            let gone = Gone {
                kind: Kind::StoredToken,
                namespace: "team".to_owned(),
                uid: Uuid::from_u128(number),
            };
            queue.send(gone).unwrap();
        }
        // Nothing more comes: what stepped aside has its turn all the same.
        drop(queue);
        let pause = Duration::from_millis(1);
        let mut line = Line::new(waiting, Backoff::new(pause, pause, Arc::new(SystemRandom)));
        let mut turns = vec![];
        while let Some(gone) = line.next().await {
            turns.push(gone.uid.as_u128());
            // The first fails until the last has had its turn.
            if gone.uid.as_u128() == 1 && !turns.contains(&3) {
                line.step_aside(gone);
            } else {
                line.done(&gone);
            }
        }
        let turns_of = |number| turns.iter().filter(|turn| **turn == number).count();
        assert!(turns_of(1) > 1, "{turns:?}");
        assert_eq!((turns_of(2), turns_of(3)), (1, 1), "{turns:?}");
        assert_eq!(line.backoff.failing(), []);
    }
}
