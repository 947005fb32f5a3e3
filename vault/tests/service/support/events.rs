//! What a broker that watches is told.

use std::time::Duration;

use bursar_wire::v1alpha1::{Event, WorkloadIssuer, event};
use tonic::{Status, Streaming};

use super::DEADLINE;

pub(crate) struct Events(pub(super) Streaming<Event>);

impl Events {
    /// The next event; `None` at the end of the stream.
    pub(crate) async fn try_next(&mut self) -> Result<Option<event::Event>, Status> {
        let next = tokio::time::timeout(DEADLINE, self.0.message()).await;
        let next = next.expect("no event within a minute")?;
        Ok(next.map(|event| event.event.unwrap()))
    }

    pub(crate) async fn next(&mut self) -> event::Event {
        let next = self.try_next().await.unwrap();
        next.expect("the stream ended")
    }

    /// The allowances that have been recalled by now.
    pub(crate) async fn recalled_so_far(&mut self) -> Vec<String> {
        let mut recalled = Vec::new();
        // An event that is there is there at once.
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(1), self.next()).await {
            if let event::Event::Recall(recall) = event {
                recalled.extend(recall.allowance_ids);
            }
        }
        recalled
    }

    /// The next event but "forget denials", which comes with every widening.
    async fn next_loss(&mut self) -> event::Event {
        loop {
            match self.next().await {
                event::Event::ForgetDenials(_) => {}
                other => return other,
            }
        }
    }

    /// The allowances of the next event, which must be a recall.
    pub(crate) async fn recalled(&mut self) -> Vec<String> {
        match self.next_loss().await {
            event::Event::Recall(recall) => recall.allowance_ids,
            other => panic!("not a recall: {other:?}"),
        }
    }

    /// The allowances of the next event, which must say that there is a newer version.
    pub(crate) async fn superseded(&mut self) -> Vec<String> {
        match self.next_loss().await {
            event::Event::Supersede(supersede) => supersede.allowance_ids,
            other => panic!("not a newer version: {other:?}"),
        }
    }

    /// The issuer of the next event, which must be a new one.
    pub(crate) async fn new_issuer(&mut self) -> WorkloadIssuer {
        match self.next_loss().await {
            event::Event::WorkloadIssuer(issuer) => issuer,
            other => panic!("not an issuer: {other:?}"),
        }
    }

    /// True when nothing is taken away for half a second.
    pub(crate) async fn loses_nothing(&mut self) -> bool {
        let loss = tokio::time::timeout(Duration::from_millis(500), self.next_loss());
        loss.await.is_err()
    }
}
