//! What the vault has of a token.

use bursar_seal::TokenVersion;
use sqlx::PgConnection;

use super::spec::TokenSpec;
use super::versions::{any_is_live, find_revoked};
use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::integrity::IntegrityFailure;
use crate::names::UserUid;
use crate::rows::{
    AuthenticatedRow, Consumer, ConsumerRow, State, Token, TokenRow, User, UserRow, Version,
    VersionRow,
};
use crate::tenant::Tenant;

/// The rows of one token, read together.
pub(super) struct Stored {
    pub(super) now: DbTime,
    pub(super) user: User,
    /// `None` when there is none, or none to be believed.
    pub(super) token: Option<Token>,
    /// The epoch of the token's row, believed or not.
    pub(super) epoch: i64,
    pub(super) consumers: Vec<Consumer>,
    /// The service accounts in damaged rows of consumers.
    pub(super) unverified: Vec<String>,
    /// The number of the newest version: the row's, or if that is not to be
    /// believed, the highest there is.
    pub(super) newest_version: Option<TokenVersion>,
    /// That version, unless its row is damaged.
    pub(super) newest: Option<Version>,
    /// True when that version is live although its value was revoked on purpose.
    pub(super) newest_is_revoked: bool,
    /// The highest number of any version.
    pub(super) highest_version: Option<TokenVersion>,
    /// What was known of the token and is not in the database any more.
    pub(super) rolled_back: Option<TokenVersion>,
    /// True when it went back in time and a version is still live. Damaged ones
    /// are not: they are never served, and cannot be ended either.
    pub(super) must_end: bool,
    /// A live token of the same name and another id.
    pub(super) rival: Option<TokenRow>,
    pub(super) damaged: Vec<IntegrityFailure>,
}

impl Stored {
    /// # Errors
    /// [`VaultError::UserNotFound`]; [`VaultError::Integrity`] for the user's row.
    pub(super) async fn read(
        connection: &mut PgConnection,
        tenant: &Tenant,
        spec: &TokenSpec,
    ) -> Result<Self, VaultError> {
        let (keys, id) = (tenant.keys(), tenant.uuid());
        let user = UserRow::by_uid(connection, id, spec.user_uid).await?;
        let user = match user {
            Some(row) => Some(row.verify(keys)?).filter(User::is_live),
            None => None,
        }
        .ok_or(VaultError::UserNotFound {
            token: spec.id,
            user: spec.user_uid,
        })?;

        let mut damaged = Vec::new();
        let row = TokenRow::by_id(connection, id, spec.id).await?;
        let epoch = row.as_ref().map_or(0, |row| row.epoch);
        let token = row.and_then(|row| {
            row.verify(keys)
                .map_err(|failure| damaged.push(failure))
                .ok()
        });

        let (mut consumers, mut unverified) = (Vec::new(), Vec::new());
        for row in ConsumerRow::of_token(connection, id, spec.id).await? {
            let name = row.service_account_name.clone();
            match row.verify(keys) {
                Ok(consumer) => consumers.push(consumer),
                Err(failure) => {
                    damaged.push(failure);
                    unverified.push(name);
                }
            }
        }

        let highest_version = VersionRow::highest(connection, id, spec.id).await?;
        let highest_version = highest_version.and_then(|version| version.try_into().ok());
        let newest_version = token
            .as_ref()
            .map_or(highest_version, |token| token.newest_version);
        let newest = match newest_version {
            Some(version) => {
                match VersionRow::by_number(connection, id, spec.id, version.into()).await? {
                    Some(row) => row.verify(keys),
                    None => {
                        let place = format!("{}/{version}", spec.id);
                        Err(IntegrityFailure::new(
                            tenant.id(),
                            VersionRow::TABLE,
                            place,
                            &[],
                        ))
                    }
                }
                .map_err(|failure| damaged.push(failure))
                .ok()
            }
            None => None,
        };

        let through_before = token.as_ref().and_then(Token::revoked_through);
        let known = spec.known_version.max(highest_version);
        let stored = newest_version.max(spec.through_version).max(through_before);
        let rolled_back = known.filter(|_| known > stored);
        let must_end = rolled_back.is_some() && any_is_live(connection, tenant, spec.id).await?;

        let newest_is_revoked = match &newest {
            Some(newest) if newest.state == State::Live => {
                let (key, fingerprint) = (newest.secret_version, &newest.fingerprint);
                find_revoked(connection, tenant, key, fingerprint)
                    .await?
                    .is_some()
            }
            _ => false,
        };

        let rival = TokenRow::by_name(connection, id, &spec.name)
            .await?
            .filter(|row| row.token_id != spec.id.as_uuid());
        if let Some(Err(failure)) = rival.clone().map(|row| row.verify(keys)) {
            damaged.push(failure);
        }
        Ok(Self {
            now: db_now(connection).await?,
            user,
            token,
            epoch,
            consumers,
            unverified,
            newest_version,
            newest,
            newest_is_revoked,
            highest_version,
            rolled_back,
            must_end,
            rival,
            damaged,
        })
    }

    /// The token as it was while it lived.
    pub(super) fn live(&self) -> Option<&Token> {
        self.token.as_ref().filter(|token| token.is_live())
    }

    /// True when the versions were made for somebody else than `user`, or when
    /// nothing to be believed says for whom.
    pub(super) fn is_not_for(&self, user: UserUid) -> bool {
        self.live().is_none_or(|token| token.user_uid != user)
    }
}
