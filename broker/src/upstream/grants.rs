//! Asking for allowances, one at a time.

use std::convert::Infallible;

use bursar_seal::TenantId;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::calls::{CallError, Calls};
use crate::allowance::denials::Denial;
use crate::broker::Broker;

/// Sends the requests that wait, until the incarnation ends.
///
/// After a failure its number is sent again: it may have been granted all the same.
/// Those who wait for it are told at once, and the next request goes first, so that
/// one token's trouble is not another's. It waits for the pause only where the vault
/// has said nothing.
pub(crate) async fn run(
    broker: &Broker,
    calls: &Calls,
    tenant: TenantId,
) -> Result<Infallible, CallError> {
    let wake = broker.holdings.borrow().grant_wake();
    let mut backoff = Backoff::default();
    loop {
        let request = broker.holdings.borrow_mut().next_grant(broker.clock.boot());
        let Some(request) = request else {
            wake.notified().await;
            continue;
        };
        let answer = calls.grant(request).await;
        let (jitter, now) = (broker.jitter(), broker.clock.boot());
        let error = match answer {
            Ok(answer) => {
                backoff.reset();
                broker
                    .holdings
                    .borrow_mut()
                    .settle(answer, tenant, jitter, now);
                continue;
            }
            Err(CallError::Fenced) => return Err(CallError::Fenced),
            Err(error) => error,
        };
        tracing::warn!(%error, "no allowance");
        let pause = sleep(backoff.delay(jitter));
        let answered = matches!(error, CallError::Malformed(_) | CallError::Refused { .. });
        let denial = match error {
            CallError::Malformed(_) => Denial::Unusable,
            _ => Denial::Unavailable,
        };
        broker.holdings.borrow_mut().fail(denial, now);
        tokio::select! {
            () = pause => {}
            () = wake.notified(), if answered => {}
        }
    }
}
