//! Waiting for a condition, always with a limit.

use std::time::Duration;

/// Calls `attempt` every `pause` until it gives a value; `None` after `limit`.
pub async fn until<T>(
    limit: Duration,
    pause: Duration,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let poll = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(limit, poll).await.ok()
}
