//! What the vault tells this broker to stop or renew.

use std::convert::Infallible;

use bursar_wire::v1alpha1::Event;
use bursar_wire::v1alpha1::event;
use tonic::Streaming;

use super::calls::{CallError, failure};
use super::session::Attached;
use crate::broker::Broker;

/// Applies events until the vault says that it has told everything that
/// happened before.
///
/// # Errors
/// When the stream ends before.
pub(crate) async fn sync(
    broker: &Broker,
    attached: &Attached,
    events: &mut Streaming<Event>,
) -> Result<(), CallError> {
    loop {
        if let event::Event::Synced(_) = next(broker, attached, events).await? {
            return Ok(());
        }
    }
}

/// Applies events until the stream ends.
pub(crate) async fn follow(
    broker: &Broker,
    attached: &Attached,
    events: &mut Streaming<Event>,
) -> Result<Infallible, CallError> {
    loop {
        next(broker, attached, events).await?;
    }
}

async fn next(
    broker: &Broker,
    attached: &Attached,
    events: &mut Streaming<Event>,
) -> Result<event::Event, CallError> {
    loop {
        let message = events
            .message()
            .await
            .map_err(|status| failure("Watch", &status))?;
        broker.metrics.vault_contact();
        // An event that this build does not know is empty, and skipped: the
        // vault sends none that the agreed protocol version does not have.
        if let Some(event) = message.ok_or(CallError::StreamEnded)?.event {
            apply(broker, attached, &event);
            return Ok(event);
        }
    }
}

fn apply(broker: &Broker, attached: &Attached, event: &event::Event) {
    match event {
        // Whatever was decided before may have changed in the meantime.
        event::Event::Synced(_) => {
            broker.holdings.borrow_mut().forget_denials();
            broker.descriptions.forget_all();
        }
        event::Event::Recall(recall) => {
            let ended = broker.holdings.borrow_mut().recall(&recall.allowance_ids);
            broker.metrics.recalled.inc_by(ended as u64);
            broker.descriptions.forget_all();
        }
        event::Event::Supersede(supersede) => {
            broker
                .holdings
                .borrow_mut()
                .supersede(&supersede.allowance_ids, broker.clock.boot());
            broker.descriptions.forget_all();
        }
        event::Event::ForgetDenials(_) => {
            broker.holdings.borrow_mut().forget_denials();
            broker.descriptions.forget_all();
        }
        event::Event::WorkloadIssuer(issuer) => attached.trust(broker, issuer),
    }
}
