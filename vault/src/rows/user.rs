//! `token_user`: a TokenUser.

use bursar_seal::RowWriter;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns, raise, text_enum};
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::names::{Email, UserName, UserUid};
use crate::tenant_keys::TenantKeys;

text_enum! {
    /// What a user may do besides reading their own tokens.
    Role {
        /// Own profile, sessions and tokens.
        Member,
        /// Also metadata, quotas and revocation for Members.
        Chief,
        /// Also sign-up, reset and suspension.
        Admin,
    }
}

/// A row of `token_user` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct UserRow {
    pub tenant_id: Uuid,
    pub user_uid: Uuid,
    pub name: String,
    pub email: Option<String>,
    pub role: String,
    pub suspended: bool,
    pub epoch: i64,
    pub deleted_time: Option<DbTime>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// `metadata.uid` of the TokenUser.
    pub uid: UserUid,
    /// Its name.
    pub name: UserName,
    /// At most one live user of a tenant has it.
    pub email: Option<Email>,
    /// What the user may do.
    pub role: Role,
    /// True: nothing is served in this user's name.
    pub suspended: bool,
    /// Raised by every change of who may read or whether.
    pub epoch: i64,
    /// When the TokenUser was deleted or replaced.
    pub deleted_time: Option<DbTime>,
}

impl User {
    /// True unless deleted.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.deleted_time.is_none()
    }

    pub(crate) fn to_row(&self, keys: &TenantKeys) -> UserRow {
        UserRow {
            tenant_id: keys.tenant().as_uuid(),
            user_uid: self.uid.as_uuid(),
            name: self.name.to_string(),
            email: self.email.as_ref().map(|email| email.as_str().to_owned()),
            role: self.role.as_str().to_owned(),
            suspended: self.suspended,
            epoch: self.epoch,
            deleted_time: self.deleted_time,
            key_version: 0,
            mac: Vec::new(),
        }
        .authenticated(keys)
    }
}

impl UserRow {
    /// The user, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<User, IntegrityFailure> {
        let row = authentic(self, keys)?;
        row.parse().ok_or_else(|| IntegrityFailure::of(&row))
    }

    /// The same row as a deleted user. May be asked of a row that was not
    /// verified: it only denies, and applying the user again replaces all of it.
    pub(crate) fn into_deleted(mut self, now: DbTime, keys: &TenantKeys) -> Self {
        self.deleted_time = self.deleted_time.or(Some(now));
        self.epoch = raise(self.epoch);
        self.authenticated(keys)
    }

    fn authenticated(self, keys: &TenantKeys) -> Self {
        authenticate(self, keys.newest())
    }

    /// The user of a UID, deleted or not.
    pub(crate) async fn by_uid(
        connection: &mut PgConnection,
        tenant: Uuid,
        uid: UserUid,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, user_uid, name, email, role, suspended, epoch,
                      deleted_time as "deleted_time: DbTime", key_version, mac
               from token_user where tenant_id = $1 and user_uid = $2"#,
            tenant,
            uid.as_uuid(),
        )
        .fetch_optional(connection)
        .await
    }

    /// The user of a name, unless deleted.
    pub(crate) async fn by_name(
        connection: &mut PgConnection,
        tenant: Uuid,
        name: &UserName,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, user_uid, name, email, role, suspended, epoch,
                      deleted_time as "deleted_time: DbTime", key_version, mac
               from token_user where tenant_id = $1 and name = $2 and deleted_time is null"#,
            tenant,
            name.as_str(),
        )
        .fetch_optional(connection)
        .await
    }

    pub(crate) async fn write(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into token_user (tenant_id, user_uid, name, email, role, suspended, epoch,
                                     deleted_time, suspended_time, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7, $8, case when $6 then now() end, $9, $10)
             on conflict (tenant_id, user_uid) do update set
                 name = excluded.name, email = excluded.email, role = excluded.role,
                 suspended = excluded.suspended, epoch = excluded.epoch,
                 deleted_time = excluded.deleted_time,
                 suspended_time = case when excluded.suspended
                     then coalesce(token_user.suspended_time, excluded.suspended_time) end,
                 key_version = excluded.key_version, mac = excluded.mac",
            self.tenant_id,
            self.user_uid,
            self.name,
            self.email,
            self.role,
            self.suspended,
            self.epoch,
            self.deleted_time as _,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    fn parse(&self) -> Option<User> {
        Some(User {
            uid: self.user_uid.into(),
            name: self.name.parse().ok()?,
            email: match &self.email {
                Some(email) => Some(Email::try_from(email.as_str()).ok()?),
                None => None,
            },
            role: Role::parse(&self.role)?,
            suspended: self.suspended,
            epoch: self.epoch,
            deleted_time: self.deleted_time,
        })
    }
}

impl AuthenticatedRow for UserRow {
    const TABLE: &'static str = "token_user";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}", self.user_uid)
    }

    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.user_uid)
            .text(&self.name)
            .opt_text(self.email.as_deref())
            .text(&self.role)
            .bool(self.suspended)
            .i64(self.epoch)
            .opt_i64(self.deleted_time.map(DbTime::micros))
    }
}
