//! `token_version`: one value of a token, sealed.

use bursar_seal::{
    Ciphertext, DataKey, Fingerprint, RowWriter, SecretVersion, TenantId, TokenId, TokenVersion,
    VALUE_COLUMN, ValueContext, WrappedKey,
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AuthenticatedRow, authentic, authenticate, mac_columns, text_enum};
use crate::db_time::DbTime;
use crate::integrity::IntegrityFailure;
use crate::tenant_keys::TenantKeys;

text_enum! {
    /// What may become of a version.
    State {
        /// May be served while it is the newest and not revoked.
        Live,
        /// Never served again; its keys still exist.
        Dead,
        /// Its keys are destroyed.
        Shredded,
    }
}

text_enum! {
    /// Where a value came from.
    Origin {
        /// A Kubernetes Secret.
        SecretKeyRef,
        /// The vault made it.
        Generate,
    }
}

/// A row of `token_version` as it lies in the database.
#[derive(Clone, Debug, sqlx::FromRow, sqlx::Type)]
#[expect(missing_docs, reason = "the columns are explained in the schema")]
pub struct VersionRow {
    pub tenant_id: Uuid,
    pub token_id: Uuid,
    pub version: i32,
    pub state: String,
    pub origin: String,
    pub secret_version: i32,
    pub fingerprint: Vec<u8>,
    pub version_time: DbTime,
    pub shred_time: Option<DbTime>,
    pub wrapped_key: Option<Vec<u8>>,
    pub ciphertext: Option<Vec<u8>>,
    pub key_version: i32,
    pub mac: Vec<u8>,
}

/// A verified version.
#[derive(Clone, Debug)]
pub struct Version {
    /// Whose value.
    pub token: TokenId,
    /// Its number.
    pub version: TokenVersion,
    /// What may become of it.
    pub state: State,
    /// Where it came from.
    pub origin: Origin,
    /// The key that the fingerprint was made with.
    pub secret_version: SecretVersion,
    /// By which the value is known again.
    pub fingerprint: Fingerprint,
    /// When it was stored.
    pub version_time: DbTime,
    /// When its keys are destroyed.
    pub shred_time: Option<DbTime>,
    row: VersionRow,
}

impl Version {
    /// The data key and what it opens, to be handed to a broker; `None` once
    /// shredded.
    ///
    /// # Errors
    /// The failure to record, when the key does not open.
    pub fn open_key(
        &self,
        keys: &TenantKeys,
    ) -> Result<Option<(DataKey, Ciphertext)>, IntegrityFailure> {
        let (Some(wrapped), Some(ciphertext)) = (&self.row.wrapped_key, &self.row.ciphertext)
        else {
            return Ok(None);
        };
        let key = keys
            .of_version(self.row.key_version)
            .and_then(|key| {
                let wrapped = WrappedKey::from(wrapped.clone());
                key.open_data_key(self.token, self.version, &wrapped).ok()
            })
            .ok_or_else(|| IntegrityFailure::of(&self.row))?;
        Ok(Some((key, Ciphertext::from(ciphertext.clone()))))
    }

    /// Where its value belongs: the associated data that it was sealed with.
    #[must_use]
    pub fn context(&self) -> ValueContext {
        value_context(self.row.tenant_id.into(), self.token, self.version)
    }

    /// Its row, never to be served again, with its keys until `shred_time`.
    ///
    /// Only a verified version has one. Under a new MAC whatever stands in the row
    /// is believed: a fingerprint that somebody else wrote there would be
    /// remembered as revoked, and the value itself accepted again.
    pub(crate) fn into_dead(self, shred_time: Option<DbTime>, keys: &TenantKeys) -> VersionRow {
        let mut row = self.row;
        if self.state != State::Shredded {
            row.state = State::Dead.as_str().to_owned();
            row.shred_time = shred_time;
        }
        row.authenticated(keys)
    }

    /// Its row without its keys.
    pub(crate) fn into_shredded(self, keys: &TenantKeys) -> VersionRow {
        self.row.without_keys().authenticated(keys)
    }
}

/// Where the value of a version belongs.
pub(crate) const fn value_context(
    tenant: TenantId,
    token: TokenId,
    version: TokenVersion,
) -> ValueContext {
    ValueContext {
        tenant,
        token,
        version,
        column: VALUE_COLUMN,
    }
}

impl VersionRow {
    /// The version, if the row is what the vault wrote.
    ///
    /// # Errors
    /// The failure to record, if not.
    pub fn verify(self, keys: &TenantKeys) -> Result<Version, IntegrityFailure> {
        let row = authentic(self, keys)?;
        match row.parse() {
            Some(version) => Ok(version),
            None => Err(IntegrityFailure::of(&row)),
        }
    }

    fn parse(&self) -> Option<Version> {
        Some(Version {
            token: self.token_id.into(),
            version: self.version.try_into().ok()?,
            state: State::parse(&self.state)?,
            origin: Origin::parse(&self.origin)?,
            secret_version: self.secret_version.try_into().ok()?,
            fingerprint: <[u8; 32]>::try_from(self.fingerprint.as_slice())
                .ok()?
                .into(),
            version_time: self.version_time,
            shred_time: self.shred_time,
            row: self.clone(),
        })
    }

    /// The same row without its keys, for one that is damaged: its MAC does not
    /// fit afterwards either, so that nothing that stands there is ever believed.
    pub(crate) fn without_keys(mut self) -> Self {
        self.state = State::Shredded.as_str().to_owned();
        self.shred_time = None;
        self.wrapped_key = None;
        self.ciphertext = None;
        self
    }

    pub(crate) async fn by_number(
        connection: &mut PgConnection,
        tenant: Uuid,
        token: TokenId,
        version: i32,
    ) -> Result<Option<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, version, state, origin, secret_version, fingerprint,
                      version_time as "version_time: DbTime", shred_time as "shred_time: DbTime",
                      wrapped_key, ciphertext, key_version, mac
               from token_version where tenant_id = $1 and token_id = $2 and version = $3"#,
            tenant,
            token.as_uuid(),
            version,
        )
        .fetch_optional(connection)
        .await
    }

    /// One version of each of these tokens.
    pub(crate) async fn by_numbers(
        connection: &mut PgConnection,
        tenant: Uuid,
        places: &[(TokenId, TokenVersion)],
    ) -> Result<Vec<Self>, sqlx::Error> {
        let (tokens, versions): (Vec<Uuid>, Vec<i32>) = places
            .iter()
            .map(|(token, version)| (token.as_uuid(), i32::from(*version)))
            .unzip();
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, version, state, origin, secret_version, fingerprint,
                      version_time as "version_time: DbTime", shred_time as "shred_time: DbTime",
                      wrapped_key, ciphertext, key_version, mac
               from token_version
               where tenant_id = $1
                 and (token_id, version) in (select * from unnest($2::uuid[], $3::int[]))"#,
            tenant,
            &tokens,
            &versions,
        )
        .fetch_all(connection)
        .await
    }

    /// The highest number of a token's versions, if there is any, not verified.
    pub(crate) async fn highest(
        connection: &mut PgConnection,
        tenant: Uuid,
        token: TokenId,
    ) -> Result<Option<i32>, sqlx::Error> {
        sqlx::query_scalar!(
            "select max(version) from token_version where tenant_id = $1 and token_id = $2",
            tenant,
            token.as_uuid(),
        )
        .fetch_one(connection)
        .await
    }

    /// The versions up to `through` of a token, and of deleted tokens of the same
    /// name, oldest first.
    pub(crate) async fn through(
        connection: &mut PgConnection,
        tenant: Uuid,
        (token, name): (TokenId, &str),
        through: TokenVersion,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, version, state, origin, secret_version, fingerprint,
                      version_time as "version_time: DbTime", shred_time as "shred_time: DbTime",
                      wrapped_key, ciphertext, token_version.key_version, token_version.mac
               from token_version join token using (tenant_id, token_id)
               where tenant_id = $1 and (token_id = $2 or token.name = $3) and version <= $4
               order by version"#,
            tenant,
            token.as_uuid(),
            name,
            i32::from(through),
        )
        .fetch_all(connection)
        .await
    }

    /// Versions of a tenant that are to be shredded by now, by token and number:
    /// the next ones after a place.
    pub(crate) async fn due(
        transaction: &mut PgConnection,
        tenant: Uuid,
        (token, version): (Uuid, i32),
        limit: i64,
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            Self,
            r#"select tenant_id, token_id, version, state, origin, secret_version, fingerprint,
                      version_time as "version_time: DbTime", shred_time as "shred_time: DbTime",
                      wrapped_key, ciphertext, key_version, mac
               from token_version
               where tenant_id = $1 and shred_time <= now() and (token_id, version) > ($2, $3)
               order by token_id, version limit $4"#,
            tenant,
            token,
            version,
            limit,
        )
        .fetch_all(transaction)
        .await
    }

    pub(crate) async fn insert(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "insert into token_version (tenant_id, token_id, version, state, origin, secret_version,
                                        fingerprint, version_time, shred_time, wrapped_key,
                                        ciphertext, key_version, mac)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            self.tenant_id,
            self.token_id,
            self.version,
            self.state,
            self.origin,
            self.secret_version,
            self.fingerprint,
            self.version_time as _,
            self.shred_time as _,
            self.wrapped_key,
            self.ciphertext,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// Writes what may change in a version: its end.
    pub(crate) async fn update(&self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "update token_version set state = $4, shred_time = $5, wrapped_key = $6,
                                      ciphertext = $7, key_version = $8, mac = $9,
                                      dead_time = case when $4 <> 'Live'
                                          then coalesce(dead_time, now()) end
             where tenant_id = $1 and token_id = $2 and version = $3",
            self.tenant_id,
            self.token_id,
            self.version,
            self.state,
            self.shred_time as _,
            self.wrapped_key,
            self.ciphertext,
            self.key_version,
            self.mac,
        )
        .execute(transaction)
        .await?;
        Ok(())
    }

    /// With the MAC under the key that also wraps the data key.
    pub(crate) fn authenticated(self, keys: &TenantKeys) -> Self {
        let key = keys
            .of_version(self.key_version)
            .unwrap_or_else(|| keys.newest());
        authenticate(self, key)
    }
}

impl AuthenticatedRow for VersionRow {
    const TABLE: &'static str = "token_version";
    mac_columns!();

    fn row_key(&self) -> String {
        format!("{}/{}", self.token_id, self.version)
    }

    // Key and value are sealed for this place anyway; under the MAC a change to
    // them is noticed here, where it can be recorded, and not by a broker.
    fn content(&self) -> RowWriter {
        RowWriter::new(Self::TABLE)
            .uuid(self.tenant_id)
            .uuid(self.token_id)
            .i64(self.version.into())
            .text(&self.state)
            .text(&self.origin)
            .i64(self.secret_version.into())
            .bytes(&self.fingerprint)
            .i64(self.version_time.micros())
            .opt_i64(self.shred_time.map(DbTime::micros))
            .opt_bytes(self.wrapped_key.as_deref())
            .opt_bytes(self.ciphertext.as_deref())
    }
}
