//! What a workload may read, from rows whose MACs fit.
//!
//! Reading finds everything of one user that bears on the answer; deciding is
//! pure. A row that is not what the vault wrote decides nothing: what it might
//! have allowed is answered like what belongs to somebody else.

use std::collections::{HashMap, HashSet};

use bursar_seal::{TokenId, TokenVersion};
use sqlx::PgConnection;
use uuid::Uuid;

use super::error::CallError;
use super::gone;
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::{Purpose, ServiceAccountName, TokenName, UserName};
use crate::quotas::{Stored, UsageId};
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
    /// The user's tokens that the service account may not see.
    hidden: Vec<TokenName>,
    /// There is a row that decides nothing because it is not ours.
    damaged: bool,
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

/// What says what a service account may see of a user, as it lies in the database.
#[derive(Default)]
pub(crate) struct AccountRows {
    /// Unless deleted.
    pub(crate) user: Option<UserRow>,
    pub(crate) workloads: Vec<WorkloadRow>,
    pub(crate) tokens: Vec<TokenRow>,
    /// Those of narrowed tokens.
    pub(crate) consumers: Vec<ConsumerRow>,
}

impl AccountRows {
    async fn read(
        connection: &mut PgConnection,
        tenant: Uuid,
        name: &UserName,
    ) -> Result<Self, sqlx::Error> {
        let Some(user) = UserRow::by_name(connection, tenant, name).await? else {
            return Ok(Self::default());
        };
        let uid = user.user_uid.into();
        let workloads = WorkloadRow::of_user(connection, tenant, uid).await?;
        let tokens = TokenRow::of_user(connection, tenant, uid).await?;
        let narrowed = tokens.iter().filter(|token| token.narrowed);
        let narrowed: Vec<Uuid> = narrowed.map(|token| token.token_id).collect();
        let consumers = ConsumerRow::of_tokens(connection, tenant, &narrowed).await?;
        Ok(Self {
            user: Some(user),
            workloads,
            tokens,
            consumers,
        })
    }
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

impl Reader<'_> {
    /// What `service_account` may see of the user called `name`, if it may act as
    /// such a user.
    pub(crate) async fn account(
        &mut self,
        name: &UserName,
        service_account: &ServiceAccountName,
        named: Option<&TokenName>,
    ) -> Result<Result<Account, Barred>, CallError> {
        let rows = AccountRows::read(self.connection, self.tenant.uuid(), name).await?;
        self.account_of(rows, name, service_account, named).await
    }

    /// The same from rows that were read. What is missing there is looked for.
    pub(crate) async fn account_of(
        &mut self,
        rows: AccountRows,
        name: &UserName,
        service_account: &ServiceAccountName,
        named: Option<&TokenName>,
    ) -> Result<Result<Account, Barred>, CallError> {
        let acted_for = self
            .acted_for(rows.user, rows.workloads, name, service_account)
            .await?;
        let user = match acted_for {
            Ok(user) => user,
            Err(barred) => return Ok(Err(barred)),
        };
        let mut account = self.tokens(user, rows.tokens, rows.consumers, service_account);
        let visible = &account.visible;
        let missing = |name: &TokenName| visible.iter().all(|found| found.token.name != *name);
        if let Some(name) = named.filter(|name| missing(name)) {
            account.damaged |= !self.absence_is_ours(name).await?;
        }
        Ok(Ok(account))
    }

    /// The user called `name`, if `service_account` may act as it.
    async fn acted_for(
        &mut self,
        row: Option<UserRow>,
        workloads: Vec<WorkloadRow>,
        name: &UserName,
        service_account: &ServiceAccountName,
    ) -> Result<Result<User, Barred>, CallError> {
        let user = match self.user(row, name).await? {
            Ok(user) => user,
            Err(barred) => return Ok(Err(barred)),
        };
        Ok(match self.barred(&user, workloads, service_account) {
            Some(barred) => Err(barred),
            None => Ok(user),
        })
    }

    async fn user(
        &mut self,
        row: Option<UserRow>,
        name: &UserName,
    ) -> Result<Result<User, Barred>, CallError> {
        let found = match row {
            Some(row) => Some(row),
            // Nobody but us may have deleted the user.
            None => gone::user(self.connection, self.tenant, name).await?,
        };
        let Some(row) = found else {
            return Ok(Err(Barred::NoSuchUser));
        };
        Ok(match self.noted(row.verify(self.tenant.keys())) {
            Some(user) if user.is_live() => Ok(user),
            Some(_) => Err(Barred::NoSuchUser),
            None => Err(Barred::IntegrityFailure),
        })
    }

    /// Why `service_account` may not act as the user, if it may not.
    fn barred(
        &mut self,
        user: &User,
        rows: Vec<WorkloadRow>,
        service_account: &ServiceAccountName,
    ) -> Option<Barred> {
        // All of them, so that one that was changed into another is noticed.
        let (mut listed, mut damaged) = (false, false);
        for row in rows {
            match self.noted(row.verify(self.tenant.keys())) {
                Some(found) => listed |= found.service_account_name == *service_account,
                None => damaged = true,
            }
        }
        match (listed, damaged) {
            (true, _) if user.suspended => Some(Barred::UserSuspended),
            (true, _) => None,
            (false, true) => Some(Barred::IntegrityFailure),
            (false, false) => Some(Barred::WorkloadNotListed),
        }
    }

    /// The user's tokens, as `service_account` may see them.
    fn tokens(
        &mut self,
        user: User,
        rows: Vec<TokenRow>,
        consumers: Vec<ConsumerRow>,
        service_account: &ServiceAccountName,
    ) -> Account {
        let read = rows.len();
        let tokens: Vec<Token> = rows
            .into_iter()
            .filter_map(|row| self.noted(row.verify(self.tenant.keys())))
            .collect();
        let damaged = tokens.len() < read;
        let mut consumers = self.consumers(consumers, &tokens, service_account);
        let (mut visible, mut hidden) = (Vec::new(), Vec::new());
        for token in tokens {
            let purposes = match token.narrowed {
                false => Some(None),
                true => consumers.remove(&token.id.as_uuid()),
            };
            match purposes {
                Some(purposes) => visible.push(Visible { token, purposes }),
                None => hidden.push(token.name),
            }
        }
        visible.sort_by(|a, b| a.token.name.cmp(&b.token.name));
        Account {
            user,
            visible,
            hidden,
            damaged,
        }
    }

    /// The narrowed tokens that `service_account` may see, and what for.
    fn consumers(
        &mut self,
        rows: Vec<ConsumerRow>,
        tokens: &[Token],
        service_account: &ServiceAccountName,
    ) -> HashMap<Uuid, Option<Vec<Purpose>>> {
        let narrowed: HashSet<Uuid> = tokens
            .iter()
            .filter(|token| token.narrowed)
            .map(|token| token.id.as_uuid())
            .collect();
        let mut listed = HashMap::new();
        for row in rows {
            let token = row.token_id;
            if !narrowed.contains(&token) {
                continue;
            }
            let consumer = self.noted(row.verify(self.tenant.keys()));
            if let Some(found) = consumer.filter(|it| it.service_account_name == *service_account) {
                listed.insert(token, found.purposes);
            }
        }
        listed
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
    pub(crate) fn quotas(&mut self, stored: Stored) -> Option<(Vec<Quota>, i64)> {
        stored
            .whole()
            .map_err(|damaged| self.failures.extend(damaged))
            .ok()
    }

    /// The token's newest version; `None` when there is none, or not ours. `row` is
    /// the one that was read, if it is of this token.
    pub(crate) async fn newest_version(
        &mut self,
        token: &Token,
        row: Option<VersionRow>,
    ) -> Result<Option<Version>, CallError> {
        let Some(number) = token.newest_version else {
            return Ok(None);
        };
        let place = (token.id.as_uuid(), i32::from(number));
        match row.filter(|row| (row.token_id, row.version) == place) {
            Some(row) => Ok(self.noted(row.verify(self.tenant.keys()))),
            None => Ok(self.newest_versions([token]).await?.remove(&token.id)),
        }
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
