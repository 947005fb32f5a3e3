//! Revoking beside the spec: for an emergency, on objects that are managed elsewhere.
//!
//! The row remembers it, the spec does not: applying the spec again changes nothing of it, and
//! shows it in the object's status. All else is as with a revocation by the spec: the versions
//! are dead, their values are refused from now on, and holders are recalled in one transaction.

use bursar_seal::{TokenId, TokenVersion};
use sqlx::PgConnection;

use super::drain::Drain;
use super::versions::{end_revoked, kill_versions, remember_revoked};
use crate::audit::{self, Outcome, Record};
use crate::changes::{self, Change};
use crate::db_time::{DbTime, db_now};
use crate::error::{DatabaseError, VaultError};
use crate::names::TokenName;
use crate::people::Person;
use crate::rows::{Origin, Token, TokenRow, VersionRow, raise};
use crate::service::LAPSE_GRACE;
use crate::tenant::Tenant;
use crate::vault::Vault;

/// What came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revoked {
    /// Which token.
    pub token: TokenId,
    /// Every version up to this one is dead: as asked, or as it was before if that is more.
    pub through_version: TokenVersion,
    /// The newest version there is.
    pub newest_version: TokenVersion,
    /// Whether the vault made the newest version's value. Once that is dead, the controllers have
    /// it make another.
    pub generated: bool,
    /// False when all that was asked for was revoked before.
    pub is_new: bool,
    /// When the last of them died, by the database's clock: also when that was before.
    pub time: DbTime,
}

/// Why a token was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is none of that name.
    #[error("there is no token {0} in the vault: look at kubectl get storedtokens")]
    NotFound(TokenName),
    /// It has no value.
    #[error("token {0} has no version yet, so there is nothing to revoke")]
    NoVersion(TokenName),
    /// It has no such version.
    #[error("token {name} has no version {asked}: its newest is {newest}")]
    NoSuchVersion {
        /// The token.
        name: TokenName,
        /// The version asked for.
        asked: TokenVersion,
        /// The newest it has.
        newest: TokenVersion,
    },
    /// The vault did not do it.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl From<sqlx::Error> for RevokeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Vault(error.into())
    }
}

impl Vault {
    /// Makes every version of a token up to `through` dead, whatever its spec says, now and later.
    /// Any replica may: it needs no term, because it only takes away; and it may be repeated, since
    /// it never means a version that came later. Leaves a record of who asked, also when there was
    /// nothing left to take.
    ///
    /// # Errors
    /// [`RevokeError`]; then nothing has changed.
    pub async fn revoke_token(
        &self,
        tenant: &Tenant,
        name: &TokenName,
        through: TokenVersion,
        person: &Person,
    ) -> Result<Revoked, RevokeError> {
        let transaction = self.begin().await?;
        let (mut transaction, tenant) = self.lock_tenant(transaction, tenant.id()).await?;
        let tenant = &tenant;
        let time = db_now(&mut transaction).await?;
        let row = TokenRow::by_name(&mut transaction, tenant.uuid(), name)
            .await?
            .ok_or_else(|| RevokeError::NotFound(name.clone()))?;
        let token = match row.verify(tenant.keys()) {
            Ok(token) => token,
            Err(failure) => {
                transaction.rollback().await?;
                failure.record(self.pool()).await?;
                return Err(VaultError::from(failure).into());
            }
        };
        let newest_version = newest(&token)?;
        if through > newest_version {
            return Err(RevokeError::NoSuchVersion {
                name: name.clone(),
                asked: through,
                newest: newest_version,
            });
        }

        let generated = is_generated(&mut transaction, tenant, &token, newest_version).await?;
        let is_new = Some(through) > token.revoked_through();
        let mut changes = Vec::new();
        if is_new {
            let place = (token.id, name);
            kill_versions(&mut transaction, tenant, token.id, Some(through)).await?;
            remember_revoked(&mut transaction, tenant, place, through).await?;
            let ended = end_revoked(&mut transaction, tenant, token.id).await?;
            changes.extend(ended.elsewhere);
            changes.push(Change::Recall(token.id));
            let revoked = Token {
                api_through_version: Some(through),
                epoch: raise(token.epoch),
                ..token.clone()
            };
            revoked
                .to_row(tenant.keys())
                .write(&mut transaction)
                .await?;
        }
        let record = Record {
            user_uid: Some(token.user_uid.as_uuid()),
            token_id: Some(token.id.as_uuid()),
            version: Some(through.into()),
            ..Record::of_person(Outcome::Revoked, person, "revoke", time)
        };
        let dead_time = match token.revoked_through() {
            Some(dead) if !is_new => last_death(&mut transaction, tenant, token.id, dead).await?,
            _ => None,
        };
        let chain = tenant.uuid();
        audit::append(&mut transaction, tenant.keys(), chain, vec![record]).await?;
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(Revoked {
            token: token.id,
            through_version: Some(through)
                .max(token.revoked_through())
                .unwrap_or(through),
            newest_version,
            generated,
            is_new,
            time: dead_time.unwrap_or(time),
        })
    }
}

impl Vault {
    /// The newest version of the token of a name, and how far brokers have let go of its dead
    /// ones. Once they have, the last access to one is looked for in all that is on record.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub async fn drain_of(
        &self,
        tenant: &Tenant,
        name: &TokenName,
    ) -> Result<(TokenVersion, Drain), RevokeError> {
        let mut connection = self.pool().acquire().await?;
        let row = TokenRow::by_name(&mut connection, tenant.uuid(), name).await?;
        drop(connection);
        let row = row.ok_or_else(|| RevokeError::NotFound(name.clone()))?;
        // Verified, because people revoke through the version they are told.
        let token = match row.verify(tenant.keys()) {
            Ok(token) => token,
            Err(failure) => {
                failure.record(self.pool()).await?;
                return Err(VaultError::from(failure).into());
            }
        };
        let newest_version = newest(&token)?;
        let drain = self.drain(tenant, token.id).await;
        let mut drain = drain.map_err(VaultError::from)?;
        if let (Some(through), Some(taken_back), true, None) = (
            drain.through_version,
            drain.taken_back_time,
            drain.is_complete(),
            drain.last_served_time,
        ) {
            let last = self.last_served(tenant, token.id, (through, taken_back));
            drain.last_served_time = match last.await {
                // The revocation is what matters, and that is known.
                Err(error) if error.took_too_long() => None,
                last => last.map_err(VaultError::from)?,
            };
        }
        Ok((newest_version, drain))
    }

    /// The last access on record to a version up to `through`, by its broker's clock, among what
    /// was recorded before `until`. Brokers report within a lease and the grace behind it, so
    /// that one of that time before the newest record may be the last.
    async fn last_served(
        &self,
        tenant: &Tenant,
        token: TokenId,
        (through, until): (TokenVersion, DbTime),
    ) -> Result<Option<DbTime>, DatabaseError> {
        let mut snapshot = self.begin_query_snapshot().await?;
        // Who revokes in an emergency waits for it.
        sqlx::query("set local statement_timeout = '3s'")
            .execute(&mut *snapshot)
            .await?;
        let grace = self.lease() + LAPSE_GRACE;
        let last = sqlx::query_scalar!(
            r#"with newest as (
                   select recorded_time from access_record
                   where tenant_id = $1 and token_id = $2 and outcome = 'Served'
                     and version <= $3 and recorded_time < $4
                   order by recorded_time desc limit 1
               )
               select max(r.last_time) as "last_time: DbTime" from access_record r, newest
               where r.tenant_id = $1 and r.token_id = $2 and r.outcome = 'Served'
                 and r.version <= $3 and r.recorded_time <= newest.recorded_time
                 and r.recorded_time > newest.recorded_time - make_interval(secs => $5)"#,
            tenant.uuid(),
            token.as_uuid(),
            i32::from(through),
            until as _,
            grace.as_secs_f64(),
        )
        .fetch_one(&mut *snapshot)
        .await?;
        snapshot.commit().await?;
        Ok(last)
    }
}

/// When the last of the versions up to `through` died.
async fn last_death(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    token: TokenId,
    through: TokenVersion,
) -> Result<Option<DbTime>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select max(dead_time) as "dead_time: DbTime" from token_version
           where tenant_id = $1 and token_id = $2 and version <= $3"#,
        tenant.uuid(),
        token.as_uuid(),
        i32::from(through),
    )
    .fetch_one(transaction)
    .await
}

/// Whether the vault made a version's value; not of one that is not to be believed.
async fn is_generated(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    token: &Token,
    version: TokenVersion,
) -> Result<bool, sqlx::Error> {
    let number = version.into();
    let row = VersionRow::by_number(transaction, tenant.uuid(), token.id, number).await?;
    let version = row.and_then(|row| row.verify(tenant.keys()).ok());
    Ok(version.is_some_and(|version| version.origin == Origin::Generate))
}

fn newest(token: &Token) -> Result<TokenVersion, RevokeError> {
    let newest = token.newest_version;
    newest.ok_or_else(|| RevokeError::NoVersion(token.name.clone()))
}
