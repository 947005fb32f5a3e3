//! What a workload may read, decided from rows whose MACs fit (`reader` reads them).

use bursar_seal::TokenVersion;

use crate::db_time::DbTime;
use crate::names::{Purpose, TokenName};
use crate::quotas::UsageId;
use crate::rows::{State, Token, User, Version};

/// What a service account may see of a user.
pub(crate) struct Account {
    pub(crate) user: User,
    /// In the order of their names.
    pub(crate) visible: Vec<Visible>,
    /// The user's tokens that the service account may not see.
    pub(super) hidden: Vec<TokenName>,
    /// There is a row that decides nothing because it is not ours.
    pub(super) damaged: bool,
}

/// A token the service account may see.
pub(crate) struct Visible {
    pub(crate) token: Token,
    /// What it may be read for; `None` for anything.
    pub(crate) purposes: Option<Vec<Purpose>>,
}

/// What stands behind Forbidden. Callers are never told; who may read the audit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// There is no user of that name.
    NoSuchUser,
    /// The user is suspended.
    UserSuspended,
    /// The service account is not one of the user's workloads.
    WorkloadNotListed,
    /// The user has no token of that name, and has others that are not for the caller.
    NoSuchToken,
    /// The token has consumers, and the service account is none of them.
    NotAConsumer,
    /// A row that decides is not what the vault wrote.
    IntegrityFailure,
}

/// Why a read is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Forbidden(Barred),
    TokenNotFound,
    TokenAmbiguous(Vec<String>),
    NoVersion,
    Revoked,
    Expired,
    QuotaExhausted(Exhausted),
    CounterNotFound,
    IdempotencyKeyReused,
}

/// Quotas that are used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) usages: Vec<UsageId>,
    /// The quotas whose limits they have reached.
    pub(crate) names: Vec<String>,
    /// When they begin anew, in milliseconds from now; `None` when they do not.
    pub(crate) retry_in_ms: Option<i64>,
}

impl Account {
    /// The token that is asked for.
    pub(crate) fn choose(self, named: Option<&TokenName>) -> Result<(User, Visible), Refusal> {
        let mut candidates = self.visible;
        if let Some(name) = named {
            candidates.retain(|candidate| candidate.token.name == *name);
        }
        if candidates.len() > 1 {
            let names = candidates
                .iter()
                .map(|candidate| candidate.token.name.to_string());
            return Err(Refusal::TokenAmbiguous(names.collect()));
        }
        match candidates.pop() {
            Some(candidate) => Ok((self.user, candidate)),
            None if self.damaged => Err(Refusal::Forbidden(Barred::IntegrityFailure)),
            None if self.hidden.is_empty() => Err(Refusal::TokenNotFound),
            // Absent and not yours cannot be told apart by trying names.
            None if named.is_some_and(|name| !self.hidden.contains(name)) => {
                Err(Refusal::Forbidden(Barred::NoSuchToken))
            }
            None => Err(Refusal::Forbidden(Barred::NotAConsumer)),
        }
    }
}

impl Visible {
    /// Whether the token's newest version may be served at `now`.
    pub(crate) fn serving(
        &self,
        newest: Option<&Version>,
        now: DbTime,
    ) -> Result<TokenVersion, Refusal> {
        let version = self.token.newest_version.ok_or(Refusal::NoVersion)?;
        if Some(version) <= self.token.revoked_through() {
            return Err(Refusal::Revoked);
        }
        // A version that should be there and is not was recorded as a failure.
        let newest = newest.ok_or(Refusal::Forbidden(Barred::IntegrityFailure))?;
        if newest.state != State::Live {
            return Err(Refusal::Revoked);
        }
        if self.token.expiration_time.is_some_and(|time| time <= now) {
            return Err(Refusal::Expired);
        }
        Ok(version)
    }
}
