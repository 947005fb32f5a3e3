//! `token`: a StoredToken, without its values.

use bursar_seal::{RowWriter, TokenId, TokenVersion};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns, raise, text_enum};
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::{Provider, TokenName, UserUid};
use crate::tenant_keys::TenantKeys;

text_enum! {
    /// What becomes of the values when the token is deleted. They are dead at
    /// once either way.
    DeletionPolicy {
        /// The keys are kept for seven days.
        Retain,
        /// The keys are destroyed at once.
        Shred,
    }
}

/// A row of `token` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct TokenRow {
    pub tenant_id: Uuid,
    pub token_id: Uuid,
    pub name: String,
    pub user_uid: Uuid,
    pub provider: String,
    pub expiration_time: Option<DbTime>,
    pub narrowed: bool,
    pub through_version: i32,
    pub api_through_version: i32,
    pub newest_version: i32,
    pub deletion_policy: String,
    pub epoch: i64,
    pub deleted_time: Option<DbTime>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// `metadata.uid` of the StoredToken.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// The one user it serves.
    pub user_uid: UserUid,
    /// The service it is for.
    pub provider: Provider,
    /// From then on nothing is served.
    pub expiration_time: Option<DbTime>,
    /// True when only the token's consumers may read.
    pub narrowed: bool,
    /// Every version up to this one is dead by the spec.
    pub through_version: Option<TokenVersion>,
    /// Every version up to this one is dead by what a person asked for beside the spec.
    pub api_through_version: Option<TokenVersion>,
    /// The only version that may be served.
    pub newest_version: Option<TokenVersion>,
    /// What becomes of the values on deletion.
    pub deletion_policy: DeletionPolicy,
    /// Raised by every change of who may read or whether.
    pub epoch: i64,
    /// When the StoredToken was deleted or replaced.
    pub deleted_time: Option<DbTime>,
}

impl Token {
    /// True unless deleted.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.deleted_time.is_none()
    }

    /// Every version up to this one is dead, whoever revoked it: the stricter holds.
    #[must_use]
    pub fn revoked_through(&self) -> Option<TokenVersion> {
        self.through_version.max(self.api_through_version)
    }

    pub(crate) fn to_row(&self, keys: &TenantKeys) -> TokenRow {
        TokenRow {
            tenant_id: keys.tenant().as_uuid(),
            token_id: self.id.as_uuid(),
            name: self.name.to_string(),
            user_uid: self.user_uid.as_uuid(),
            provider: self.provider.to_string(),
            expiration_time: self.expiration_time,
            narrowed: self.narrowed,
            through_version: number(self.through_version),
            api_through_version: number(self.api_through_version),
            newest_version: number(self.newest_version),
            deletion_policy: self.deletion_policy.as_str().to_owned(),
            epoch: self.epoch,
            deleted_time: self.deleted_time,
            key_version: 0,
            mac: Vec::new(),
        }
        .authenticated(keys)
    }
}

impl TokenRow {
    /// The token, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Token, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    /// The same row as a deleted token. May be asked of a row that was not
    /// verified: it only denies, and applying the token again replaces all of it.
    pub(crate) fn into_deleted(mut self, now: DbTime, keys: &TenantKeys) -> Self {
        self.deleted_time = self.deleted_time.or(Some(now));
        self.epoch = raise(self.epoch);
        self.authenticated(keys)
    }

    fn authenticated(self, keys: &TenantKeys) -> Self {
        authenticate(self, keys.newest())
    }

    /// The token of an id, deleted or not.
    pub(crate) async fn by_id(
        connection: &mut PgConnection,
        tenant: Uuid,
        id: TokenId,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, name, user_uid, provider,
                      expiration_time as "expiration_time: DbTime", narrowed, through_version,
                      api_through_version, newest_version, deletion_policy, epoch,
                      deleted_time as "deleted_time: DbTime", key_version, mac
               from token where tenant_id = $1 and token_id = $2"#,
            tenant,
            id.as_uuid(),
        )
        .fetch_optional(connection)
        .await
    }

    /// The token of a name, unless deleted.
    pub(crate) async fn by_name(
        connection: &mut PgConnection,
        tenant: Uuid,
        name: &TokenName,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, name, user_uid, provider,
                      expiration_time as "expiration_time: DbTime", narrowed, through_version,
                      api_through_version, newest_version, deletion_policy, epoch,
                      deleted_time as "deleted_time: DbTime", key_version, mac
               from token where tenant_id = $1 and name = $2 and deleted_time is null"#,
            tenant,
            name.as_str(),
        )
        .fetch_optional(connection)
        .await
    }

    /// The tokens of a user that are not deleted, by id.
    pub(crate) async fn of_user(
        connection: &mut PgConnection,
        tenant: Uuid,
        user: UserUid,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, name, user_uid, provider,
                      expiration_time as "expiration_time: DbTime", narrowed, through_version,
                      api_through_version, newest_version, deletion_policy, epoch,
                      deleted_time as "deleted_time: DbTime", key_version, mac
               from token where tenant_id = $1 and user_uid = $2 and deleted_time is null
               order by token_id"#,
            tenant,
            user.as_uuid(),
        )
        .fetch_all(connection)
        .await
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into token (tenant_id, token_id, name, user_uid, provider, expiration_time,
                                narrowed, through_version, api_through_version, newest_version,
                                deletion_policy, epoch, deleted_time, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             on conflict (tenant_id, token_id) do update set
                 name = excluded.name, user_uid = excluded.user_uid, provider = excluded.provider,
                 expiration_time = excluded.expiration_time, narrowed = excluded.narrowed,
                 through_version = excluded.through_version,
                 api_through_version = excluded.api_through_version,
                 newest_version = excluded.newest_version,
                 deletion_policy = excluded.deletion_policy, epoch = excluded.epoch,
                 deleted_time = excluded.deleted_time, key_version = excluded.key_version,
                 mac = excluded.mac",
            self.tenant_id,
            self.token_id,
            self.name,
            self.user_uid,
            self.provider,
            self.expiration_time as _,
            self.narrowed,
            self.through_version,
            self.api_through_version,
            self.newest_version,
            self.deletion_policy,
            self.epoch,
            self.deleted_time as _,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    fn parse(&self) -> Option<Token> {
        Some(Token {
            id: self.token_id.into(),
            name: self.name.parse().ok()?,
            user_uid: self.user_uid.into(),
            provider: self.provider.parse().ok()?,
            expiration_time: self.expiration_time,
            narrowed: self.narrowed,
            through_version: version(self.through_version)?,
            api_through_version: version(self.api_through_version)?,
            newest_version: version(self.newest_version)?,
            deletion_policy: DeletionPolicy::parse(&self.deletion_policy)?,
            epoch: self.epoch,
            deleted_time: self.deleted_time,
        })
    }
}

/// 0 stands for no version.
fn number(version: Option<TokenVersion>) -> i32 {
    version.map_or(0, i32::from)
}

fn version(number: i32) -> Option<Option<TokenVersion>> {
    match number {
        0 => Some(None),
        number => Some(Some(number.try_into().ok()?)),
    }
}

impl AuthenticatedRow for TokenRow {
    const TABLE: &'static str = "token";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.token_id)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.token_id)
            .text(&self.name)
            .uuid(self.user_uid)
            .text(&self.provider)
            .opt_i64(self.expiration_time.map(DbTime::micros))
            .bool(self.narrowed)
            .i64(self.through_version.into())
            .i64(self.newest_version.into())
            .text(&self.deletion_policy)
            .i64(self.epoch)
            .opt_i64(self.deleted_time.map(DbTime::micros))
            .i64(self.api_through_version.into())
    }
}
