//! Setting the order of concurrent work from outside.

use std::collections::HashSet;
use std::sync::Arc;

use bursar_vault::service::{Stage, Stages};
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::DEADLINE;

/// Stops the work at each stage until it is let on.
pub(crate) struct Gates {
    closed: watch::Sender<HashSet<Stage>>,
    reached: watch::Sender<HashSet<Stage>>,
}

impl Gates {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            closed: watch::Sender::default(),
            reached: watch::Sender::default(),
        })
    }

    pub(crate) fn close_all(&self) {
        use Stage::{ChangesRead, GrantCommitted, GrantDecided};
        self.reached.send_modify(HashSet::clear);
        let all = HashSet::from([GrantDecided, GrantCommitted, ChangesRead]);
        self.closed.send_replace(all);
    }

    pub(crate) fn open(&self, stage: Stage) {
        self.closed.send_modify(|closed| {
            closed.remove(&stage);
        });
    }

    pub(crate) async fn until_reached(&self, stage: Stage) {
        let mut reached = self.reached.subscribe();
        let reached = reached.wait_for(|reached| reached.contains(&stage));
        let within = tokio::time::timeout(DEADLINE, reached).await;
        within
            .unwrap_or_else(|_| panic!("{stage:?} was not reached"))
            .unwrap();
    }
}

impl Stages for Gates {
    fn reached(&self, stage: Stage) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.reached.send_modify(|reached| {
                reached.insert(stage);
            });
            let mut closed = self.closed.subscribe();
            closed
                .wait_for(|closed| !closed.contains(&stage))
                .await
                .unwrap();
        })
    }
}
