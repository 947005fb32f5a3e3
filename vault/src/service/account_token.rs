//! Service account tokens that people's tools show: verified as brokers' are, and reviewed in the
//! same queue, so that both together stay below what the API server is to be asked.

use super::VaultService;
use super::jwt::{self, AccountClaims};

impl VaultService {
    /// Whose token this is, if it is one of the cluster's for `audience` alone; the log has why
    /// not. The API server was not asked.
    #[must_use]
    pub fn account_claims(&self, token: &str, audience: &str) -> Option<AccountClaims> {
        let now = self.vault().clock().now();
        jwt::verify_account(token, &self.trusted_issuer(), audience, now)
            .map_err(|reason| self.refusals().log(reason))
            .ok()
    }

    /// Asks the API server about such a token, known by its `digest`, when its turn has come;
    /// `None`, at once, when too many wait or this token does already.
    pub async fn review_in_turn<T>(
        &self,
        digest: &str,
        review: impl Future<Output = T>,
    ) -> Option<T> {
        let turn = self.review_limit().turn(digest).await;
        let _turn = turn.ok()?;
        Some(review.await)
    }
}
