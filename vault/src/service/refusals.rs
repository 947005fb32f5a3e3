//! Why brokers' tokens are refused, for the people who run the vault.
//!
//! A broker is not told, and tries again for as long as it lives. Its people find
//! the reason in the log: once in a while, since anybody who can connect can have
//! a token refused as often as they like.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::jwt::TokenRefused;

/// No reason is logged more often than this.
const INTERVAL: Duration = Duration::from_secs(60);

/// When each reason was logged last.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<TokenRefused, Instant>>);

impl Refusals {
    /// Logs the reason, unless it was within the last minute. The token is not
    /// known here.
    pub(crate) fn log(&self, reason: TokenRefused) {
        if self.is_due(reason) {
            tracing::warn!(
                "a broker's token was refused: {reason}; for a minute this is not said again"
            );
        }
    }

    fn is_due(&self, reason: TokenRefused) -> bool {
        let now = Instant::now();
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = logged.get(&reason);
        let due = last.is_none_or(|last| now.duration_since(*last) >= INTERVAL);
        if due {
            logged.insert(reason, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Refusals, TokenRefused};

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_due_once_a_minute() {
        let refusals = Refusals::default();
        assert!(refusals.is_due(TokenRefused::Expired));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!refusals.is_due(TokenRefused::Expired));
        assert!(refusals.is_due(TokenRefused::Issuer), "of its own");
        // What is not said does not put off what is.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(refusals.is_due(TokenRefused::Expired));
        assert!(!refusals.is_due(TokenRefused::Expired));
    }
}
