//! Reading what bears on an answer: everything of one user that does.
//!
//! A row that is not what the vault wrote decides nothing: what it might have allowed
//! is answered like what belongs to somebody else.

use std::collections::{HashMap, HashSet};

use bursar_seal::{TokenId, TokenVersion};
use sqlx::PgConnection;
use uuid::Uuid;

use super::entitlement::{Account, Barred, Visible};
use super::error::CallError;
use super::gone;
use crate::integrity::IntegrityFailure;
use crate::names::{Purpose, ServiceAccountName, TokenName, UserName};
use crate::quotas::Stored;
use crate::rows::{
    AuthenticatedRow, ConsumerRow, Quota, Token, TokenRow, User, UserRow, Version, VersionRow,
    WorkloadRow,
};
use crate::tenant::Tenant;

/// Reads rows of one tenant, and gathers those that are not what they should be.
pub(crate) struct Reader<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) connection: &'a mut PgConnection,
    /// To be put on record once the transaction has ended.
    pub(crate) failures: Vec<IntegrityFailure>,
}

/// What says what a service account may see of a user, as it lies in the database.
pub(crate) struct AccountRows {
    /// Unless deleted.
    pub(crate) user: Option<UserRow>,
    pub(crate) workloads: Vec<WorkloadRow>,
    pub(crate) tokens: Vec<TokenRow>,
    /// Those of narrowed tokens.
    pub(crate) consumers: Vec<ConsumerRow>,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(tenant: &'a Tenant, connection: &'a mut PgConnection) -> Self {
        Self {
            tenant,
            connection,
            failures: Vec::new(),
        }
    }

    /// The user called `name`, if `service_account` may act as it.
    pub(crate) async fn user(
        &mut self,
        name: &UserName,
        service_account: &ServiceAccountName,
    ) -> Result<Result<User, Barred>, CallError> {
        let tenant = self.tenant.uuid();
        let row = UserRow::by_name(self.connection, tenant, name).await?;
        let workloads = match &row {
            Some(user) => {
                WorkloadRow::of_user(self.connection, tenant, user.user_uid.into()).await?
            }
            None => Vec::new(),
        };
        self.user_of(row, workloads, name, service_account).await
    }

    /// What `service_account` may see of the user called `name`, if it may act as
    /// such a user.
    pub(crate) async fn account(
        &mut self,
        name: &UserName,
        service_account: &ServiceAccountName,
    ) -> Result<Result<Account, Barred>, CallError> {
        let user = match self.user(name, service_account).await? {
            Ok(user) => user,
            Err(barred) => return Ok(Err(barred)),
        };
        let tenant = self.tenant.uuid();
        let tokens = TokenRow::of_user(self.connection, tenant, user.uid).await?;
        let narrowed = tokens.iter().filter(|token| token.narrowed);
        let narrowed: Vec<Uuid> = narrowed.map(|token| token.token_id).collect();
        let consumers = ConsumerRow::of_tokens(self.connection, tenant, &narrowed).await?;
        Ok(Ok(self.tokens(user, tokens, consumers, service_account)))
    }

    /// The same from rows that were read. A token that is named and missing there is
    /// looked for.
    pub(crate) async fn account_of(
        &mut self,
        rows: AccountRows,
        name: &UserName,
        service_account: &ServiceAccountName,
        named: Option<&TokenName>,
    ) -> Result<Result<Account, Barred>, CallError> {
        let user = self
            .user_of(rows.user, rows.workloads, name, service_account)
            .await?;
        let user = match user {
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

    async fn user_of(
        &mut self,
        row: Option<UserRow>,
        workloads: Vec<WorkloadRow>,
        name: &UserName,
        service_account: &ServiceAccountName,
    ) -> Result<Result<User, Barred>, CallError> {
        let user = match self.live_user(row, name).await? {
            Ok(user) => user,
            Err(barred) => return Ok(Err(barred)),
        };
        Ok(match self.barred(&user, workloads, service_account) {
            Some(barred) => Err(barred),
            None => Ok(user),
        })
    }

    async fn live_user(
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
