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
use crate::rows::{Token, TokenRow, raise};
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
    /// Makes every version of a token up to `through` dead, all it has without that; whatever its
    /// spec says, now and later. Any replica may: it needs no term, because it only takes away.
    /// Leaves a record of who asked, also when there was nothing left to take.
    ///
    /// # Errors
    /// [`RevokeError`]; then nothing has changed.
    pub async fn revoke_token(
        &self,
        tenant: &Tenant,
        name: &TokenName,
        through: Option<TokenVersion>,
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
        let (through_version, newest_version) = versions(&token, through)?;

        let is_new = Some(through_version) > token.revoked_through();
        let mut changes = Vec::new();
        if is_new {
            let place = (token.id, name);
            kill_versions(&mut transaction, tenant, token.id, Some(through_version)).await?;
            remember_revoked(&mut transaction, tenant, place, through_version).await?;
            let ended = end_revoked(&mut transaction, tenant, token.id).await?;
            changes.extend(ended.elsewhere);
            changes.push(Change::Recall(token.id));
            let revoked = Token {
                api_through_version: Some(through_version),
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
            version: Some(through_version.into()),
            ..Record::of_person(Outcome::Revoked, person, "revoke", time)
        };
        let dead_time = match token.revoked_through() {
            Some(through) if !is_new => {
                last_death(&mut transaction, tenant, token.id, through).await?
            }
            _ => None,
        };
        let chain = tenant.uuid();
        audit::append(&mut transaction, tenant.keys(), chain, vec![record]).await?;
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(Revoked {
            token: token.id,
            through_version: Some(through_version)
                .max(token.revoked_through())
                .unwrap_or(through_version),
            newest_version,
            is_new,
            time: dead_time.unwrap_or(time),
        })
    }
}

impl Vault {
    /// How far brokers have let go of the dead versions of the token of a name; `None` when there
    /// is none.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn drain_of(
        &self,
        tenant: &Tenant,
        name: &TokenName,
    ) -> Result<Option<Drain>, DatabaseError> {
        let mut connection = self.pool().acquire().await?;
        let row = TokenRow::by_name(&mut connection, tenant.uuid(), name).await?;
        drop(connection);
        match row {
            // Nothing is decided by it, so it need not be verified.
            Some(row) => Ok(Some(self.drain(tenant, row.token_id.into()).await?)),
            None => Ok(None),
        }
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

/// What is to be revoked, and the newest there is.
fn versions(
    token: &Token,
    through: Option<TokenVersion>,
) -> Result<(TokenVersion, TokenVersion), RevokeError> {
    let name = || token.name.clone();
    let newest = token
        .newest_version
        .ok_or_else(|| RevokeError::NoVersion(name()))?;
    match through {
        Some(asked) if asked > newest => Err(RevokeError::NoSuchVersion {
            name: name(),
            asked,
            newest,
        }),
        asked => Ok((asked.unwrap_or(newest), newest)),
    }
}
