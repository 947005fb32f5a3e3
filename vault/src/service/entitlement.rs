//! What a workload may read, from rows whose MACs fit.
//!
//! Reading finds everything of one user that bears on the answer; deciding is
//! pure. A row that is not what the vault wrote decides nothing: what it might
//! have allowed is answered like what belongs to somebody else.

use std::collections::HashMap;

use bursar_seal::{TokenId, TokenVersion};
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::CallError;
use super::gone;
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::{Purpose, ServiceAccountName, TokenName, UserName};
use crate::quotas::{self, UsageId};
use crate::rows::{
    AuthenticatedRow, ConsumerRow, Quota, State, Token, TokenRow, User, UserRow, Version,
    VersionRow, WorkloadRow,
};
use crate::tenant::Tenant;

/// What a service account may see of a user.
pub(crate) struct Account {
    pub(crate) user: User,
    /// In the order of their names.
    pub(crate) visible: Vec<Visible>,
    /// Whether the user has tokens that the service account may not see.
    pub(crate) more: bool,
}

/// A token the service account may see.
pub(crate) struct Visible {
    pub(crate) token: Token,
    /// What it may be read for; `None` for anything.
    pub(crate) purposes: Option<Vec<Purpose>>,
}

/// Why a read is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Forbidden,
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
    /// The quotas of these usages, for who counts what is its own.
    pub(crate) names: Vec<String>,
    /// When they begin anew, in milliseconds from now; `None` when they do not.
    pub(crate) retry_in_ms: Option<i64>,
}

/// Reads rows of one tenant, and gathers those that are not what they should be.
pub(crate) struct Reader<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) connection: &'a mut PgConnection,
    /// To be put on record once the transaction has ended.
    pub(crate) failures: Vec<IntegrityFailure>,
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
            // Absent and not yours cannot be told apart by trying names.
            None if self.more => Err(Refusal::Forbidden),
            None => Err(Refusal::TokenNotFound),
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
        let revoked = self
            .token
            .through_version
            .is_some_and(|through| version <= through);
        if revoked {
            return Err(Refusal::Revoked);
        }
        // A version that should be there and is not was recorded as a failure.
        let newest = newest.ok_or(Refusal::Forbidden)?;
        if newest.state != State::Live {
            return Err(Refusal::Revoked);
        }
        if self.token.expiration_time.is_some_and(|time| time <= now) {
            return Err(Refusal::Expired);
        }
        Ok(version)
    }
}

impl Reader<'_> {
    /// What `service_account` may see of the user called `name`; `None` when it
    /// may not act as such a user.
    pub(crate) async fn account(
        &mut self,
        name: &UserName,
        service_account: &ServiceAccountName,
        named: Option<&TokenName>,
    ) -> Result<Option<Account>, CallError> {
        let Some(user) = self.acted_for(name, service_account).await? else {
            return Ok(None);
        };
        let (visible, more) = self.tokens(&user, service_account, named).await?;
        Ok(Some(Account {
            user,
            visible,
            more,
        }))
    }

    /// The user called `name`; `None` when there is none, or `service_account` may
    /// not act as it.
    pub(crate) async fn acted_for(
        &mut self,
        name: &UserName,
        service_account: &ServiceAccountName,
    ) -> Result<Option<User>, CallError> {
        let Some(user) = self.user(name).await? else {
            return Ok(None);
        };
        let listed = self.may_act(&user, service_account).await?;
        Ok((listed && !user.suspended).then_some(user))
    }

    async fn user(&mut self, name: &UserName) -> Result<Option<User>, CallError> {
        let tenant = self.tenant.uuid();
        let found = match UserRow::by_name(self.connection, tenant, name).await? {
            Some(row) => Some(row),
            // Nobody but us may have deleted the user.
            None => gone::user(self.connection, self.tenant, name).await?,
        };
        let user = found.and_then(|row| self.noted(row.verify(self.tenant.keys())));
        Ok(user.filter(User::is_live))
    }

    async fn may_act(
        &mut self,
        user: &User,
        service_account: &ServiceAccountName,
    ) -> Result<bool, CallError> {
        // All of them, so that one that was changed into another is noticed.
        let rows = WorkloadRow::of_user(self.connection, self.tenant.uuid(), user.uid).await?;
        let mut listed = false;
        for row in rows {
            let workload = self.noted(row.verify(self.tenant.keys()));
            listed |= workload.is_some_and(|found| found.service_account_name == *service_account);
        }
        Ok(listed)
    }

    /// The user's tokens that `service_account` may see, and whether there are more.
    async fn tokens(
        &mut self,
        user: &User,
        service_account: &ServiceAccountName,
        named: Option<&TokenName>,
    ) -> Result<(Vec<Visible>, bool), CallError> {
        let rows = TokenRow::of_user(self.connection, self.tenant.uuid(), user.uid).await?;
        let read = rows.len();
        let tokens: Vec<Token> = rows
            .into_iter()
            .filter_map(|row| self.noted(row.verify(self.tenant.keys())))
            .collect();
        let mut more = tokens.len() < read;
        let mut consumers = self.consumers(&tokens, service_account).await?;
        let mut visible = Vec::new();
        for token in tokens {
            let purposes = match token.narrowed {
                false => Some(None),
                true => consumers.remove(&token.id.as_uuid()),
            };
            match purposes {
                Some(purposes) => visible.push(Visible { token, purposes }),
                None => more = true,
            }
        }
        visible.sort_by(|a, b| a.token.name.cmp(&b.token.name));
        let missing = |name: &TokenName| visible.iter().all(|found| found.token.name != *name);
        if let Some(name) = named.filter(|name| missing(name)) {
            more |= !self.absence_is_ours(name).await?;
        }
        Ok((visible, more))
    }

    /// The narrowed tokens that `service_account` may see, and what for.
    async fn consumers(
        &mut self,
        tokens: &[Token],
        service_account: &ServiceAccountName,
    ) -> Result<HashMap<Uuid, Option<Vec<Purpose>>>, CallError> {
        let narrowed: Vec<Uuid> = tokens
            .iter()
            .filter(|token| token.narrowed)
            .map(|token| token.id.as_uuid())
            .collect();
        if narrowed.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = sqlx::query_as!(
            ConsumerRow,
            "select tenant_id, token_id, service_account_name, purposes, key_version, mac
             from consumer where tenant_id = $1 and token_id = any($2)",
            self.tenant.uuid(),
            &narrowed,
        )
        .fetch_all(&mut *self.connection)
        .await?;
        let mut listed = HashMap::new();
        for row in rows {
            let token = row.token_id;
            let consumer = self.noted(row.verify(self.tenant.keys()));
            if let Some(found) = consumer.filter(|it| it.service_account_name == *service_account) {
                listed.insert(token, found.purposes);
            }
        }
        Ok(listed)
    }

    /// False when a token of this name looks deleted, or another user's, but not
    /// by our doing.
    async fn absence_is_ours(&mut self, name: &TokenName) -> Result<bool, CallError> {
        let tenant = self.tenant.uuid();
        let row = match TokenRow::by_name(self.connection, tenant, name).await? {
            Some(row) => Some(row),
            None => gone::token(self.connection, self.tenant, name).await?,
        };
        Ok(row.is_none_or(|row| self.noted(row.verify(self.tenant.keys())).is_some()))
    }

    /// The tenant's quotas and the epoch of their set; `None` when one of them is not
    /// ours, because nobody knows then whom it was about.
    pub(crate) async fn quotas(&mut self) -> Result<Option<(Vec<Quota>, i64)>, CallError> {
        let stored = quotas::Stored::read(self.connection, self.tenant).await?;
        match stored.whole() {
            Ok(whole) => Ok(Some(whole)),
            Err(damaged) => {
                self.failures.extend(damaged);
                Ok(None)
            }
        }
    }

    /// The token's newest version; `None` when there is none, or not ours.
    pub(crate) async fn newest_version(
        &mut self,
        token: &Token,
    ) -> Result<Option<Version>, CallError> {
        let mut newest = self.newest_versions([token]).await?;
        Ok(newest.remove(&token.id))
    }

    /// The newest version of each of these tokens that has one which is ours.
    pub(crate) async fn newest_versions(
        &mut self,
        tokens: impl IntoIterator<Item = &Token>,
    ) -> Result<HashMap<TokenId, Version>, CallError> {
        let places: Vec<(TokenId, TokenVersion)> = tokens
            .into_iter()
            .filter_map(|token| Some((token.id, token.newest_version?)))
            .collect();
        let rows = VersionRow::by_numbers(self.connection, self.tenant.uuid(), &places).await?;
        let mut rows: HashMap<Uuid, VersionRow> =
            rows.into_iter().map(|row| (row.token_id, row)).collect();
        let mut newest = HashMap::new();
        for (token, number) in places {
            let version = match rows.remove(&token.as_uuid()) {
                Some(row) => row.verify(self.tenant.keys()),
                None => Err(IntegrityFailure::new(
                    self.tenant.id(),
                    VersionRow::TABLE,
                    format!("{token}/{number}"),
                    &[],
                )),
            };
            newest.extend(self.noted(version).map(|version| (token, version)));
        }
        Ok(newest)
    }

    /// The row if it is ours; otherwise the failure is kept for the record.
    pub(crate) fn noted<T>(&mut self, checked: Result<T, IntegrityFailure>) -> Option<T> {
        checked.map_err(|failure| self.failures.push(failure)).ok()
    }
}
