//! Telling the vault what was served.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;

use super::backoff::Backoff;
use super::calls::{CallError, Calls};
use crate::allowance::ledger::is_full;
use crate::broker::Broker;

/// The pause between reports until the vault asks for another, and the longest when
/// a key came into use or a call was refused.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Bounds on what the vault may ask for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Reports when it is time or when it must not wait, until the incarnation
/// ends. A batch that fails stays frozen and is sent again, unchanged, here or
/// by the next session.
pub(crate) async fn run(broker: &Broker, calls: &Calls) -> Result<Infallible, CallError> {
    let wake = broker.holdings.borrow().report_wake();
    let soon = broker.holdings.borrow().report_soon();
    // What an earlier session could not deliver goes first.
    wake.notify_one();
    let mut backoff = Backoff::default();
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = async {
                soon.notified().await;
                sleep(FIRST_PAUSE).await;
            } => {}
            () = wake.notified() => {}
        }
        loop {
            let batch = broker.holdings.borrow_mut().next_batch();
            let Some(batch) = batch else { break };
            let (seq, more) = (batch.seq, is_full(&batch));
            match calls.report(batch).await {
                Ok(asked) => {
                    backoff.reset();
                    pause = asked.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    broker.holdings.borrow_mut().acknowledge(seq);
                    if !more {
                        break;
                    }
                }
                // It would be refused each time.
                Err(error @ (CallError::Fenced | CallError::Malformed(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "not reported; trying again");
                    sleep(backoff.delay(broker.jitter())).await;
                }
            }
        }
    }
}
