//! Making versions, ending them, and knowing their values again.

use std::collections::BTreeSet;

use bursar_seal::{Fingerprint, FingerprintKey, Random, SecretVersion, TokenId, TokenVersion};
use sqlx::PgConnection;

use super::spec::RefusedValue;
use crate::changes::Change;
use crate::db_time::DbTime;
use crate::error::KeyError;
use crate::names::TokenName;
use crate::rows::{Origin, State, TokenRow, Version, VersionRow, raise, value_context};
use crate::tenant::Tenant;
use crate::value::TokenValue;

/// Seals a value as a new version, under a key of its own.
pub(super) fn seal(
    tenant: &Tenant,
    (token, version): (TokenId, TokenVersion),
    value: &TokenValue,
    origin: Origin,
    fingerprints: &FingerprintKey,
    now: DbTime,
    random: &dyn Random,
) -> Result<VersionRow, KeyError> {
    let (key, wrapped) = tenant
        .keys()
        .newest()
        .new_data_key(token, version, random)?;
    let context = value_context(tenant.id(), token, version);
    let ciphertext = key.seal_value(&context, value.expose(), random)?;
    let row = VersionRow {
        tenant_id: tenant.uuid(),
        token_id: token.as_uuid(),
        version: version.into(),
        state: State::Live.as_str().to_owned(),
        origin: origin.as_str().to_owned(),
        secret_version: fingerprints.version().into(),
        fingerprint: fingerprints.fingerprint(value.expose()).as_bytes().to_vec(),
        version_time: now,
        shred_time: None,
        wrapped_key: Some(wrapped.into_bytes()),
        ciphertext: Some(ciphertext.into_bytes()),
        key_version: tenant.keys().newest().version().into(),
        mac: Vec::new(),
    };
    Ok(row.authenticated(tenant.keys()))
}

/// The rows of a token's live versions up to `through`, or of all, not verified.
async fn live(
    connection: &mut PgConnection,
    tenant: &Tenant,
    token: TokenId,
    through: Option<TokenVersion>,
) -> Result<Vec<VersionRow>, sqlx::Error> {
    let numbers = sqlx::query_scalar!(
        "select version from token_version
         where tenant_id = $1 and token_id = $2 and state = 'Live' and version <= $3
         order by version",
        tenant.uuid(),
        token.as_uuid(),
        through.map_or(i32::MAX, i32::from),
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut rows = Vec::new();
    for number in numbers {
        rows.extend(VersionRow::by_number(connection, tenant.uuid(), token, number).await?);
    }
    Ok(rows)
}

/// Whether a token has a live version that is to be believed.
pub(super) async fn any_is_live(
    connection: &mut PgConnection,
    tenant: &Tenant,
    token: TokenId,
) -> Result<bool, sqlx::Error> {
    let rows = live(connection, tenant, token, None).await?;
    Ok(rows
        .into_iter()
        .any(|row| row.verify(tenant.keys()).is_ok()))
}

/// Ends the versions up to `through`, or all of them. Their keys are kept. Damaged
/// ones go on record.
pub(crate) async fn kill_versions(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    token: TokenId,
    through: Option<TokenVersion>,
) -> Result<(), sqlx::Error> {
    for row in live(transaction, tenant, token, through).await? {
        kill(transaction, tenant, row).await?;
    }
    Ok(())
}

/// Ends a version. A damaged one goes on record and is left as it was found: it is
/// never served, and under a MAC of ours what somebody else wrote there would be
/// believed.
async fn kill(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    row: VersionRow,
) -> Result<(), sqlx::Error> {
    match row.verify(tenant.keys()) {
        Ok(version) => {
            let dead = version.into_dead(None, tenant.keys());
            dead.update(transaction).await
        }
        Err(failure) => failure.record(transaction).await.map(drop),
    }
}

/// Remembers the values of a token's versions up to `through` as revoked on
/// purpose, those of deleted tokens of the same name included: whoever recreates
/// an object and revokes in one step means the value that was there.
///
/// Nobody knows the value of a damaged version by its fingerprint: it is not
/// remembered, which goes on record and to the log.
pub(super) async fn remember_revoked(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    (token, name): (TokenId, &TokenName),
    through: TokenVersion,
) -> Result<(), sqlx::Error> {
    let place = (token, name.as_str());
    let rows = VersionRow::through(transaction, tenant.uuid(), place, through).await?;
    for row in rows {
        match row.verify(tenant.keys()) {
            Ok(version) => remember(transaction, tenant, &version).await?,
            Err(failure) => {
                failure.record(&mut *transaction).await?;
                tracing::error!(
                    tenant = %failure.tenant,
                    row = failure.row,
                    "the value of a damaged version cannot be known again: it is not refused \
                     should it come back, so make sure that its provider has ended it"
                );
            }
        }
    }
    Ok(())
}

async fn remember(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    version: &Version,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into revoked_value (tenant_id, secret_version, fingerprint, token_id, version)
         values ($1, $2, $3, $4, $5) on conflict do nothing",
        tenant.uuid(),
        i32::from(version.secret_version),
        &version.fingerprint.as_bytes()[..],
        version.token.as_uuid(),
        i32::from(version.version),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// What ended because its value was revoked on purpose.
pub(super) struct Ended {
    /// Versions, by token.
    versions: Vec<(TokenId, i32)>,
    /// What holders of other tokens must hear.
    pub(super) elsewhere: Vec<Change>,
}

impl Ended {
    /// Whether this version was among them.
    pub(super) fn has(&self, token: TokenId, version: Option<TokenVersion>) -> bool {
        let version = version.map(i32::from);
        let mut versions = self.versions.iter();
        versions.any(|(ended, number)| *ended == token && Some(*number) == version)
    }
}

/// Ends the versions of the tenant whose value was revoked on purpose, whatever
/// their number and token. Other tokens than `own` are recalled with it.
pub(super) async fn end_revoked(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    own: TokenId,
) -> Result<Ended, sqlx::Error> {
    let versions = kill_revoked(transaction, tenant).await?;
    let tokens: BTreeSet<_> = versions.iter().map(|(token, _)| *token).collect();
    let mut elsewhere = Vec::new();
    for token in tokens.into_iter().filter(|token| *token != own) {
        raise_epoch(transaction, tenant, token).await?;
        elsewhere.push(Change::Recall(token));
    }
    Ok(Ended {
        versions,
        elsewhere,
    })
}

async fn kill_revoked(
    transaction: &mut PgConnection,
    tenant: &Tenant,
) -> Result<Vec<(TokenId, i32)>, sqlx::Error> {
    let live = sqlx::query!(
        "select version.token_id, version.version
         from token_version as version
         join revoked_value using (tenant_id, secret_version, fingerprint)
         where tenant_id = $1 and version.state = 'Live'
         order by version.token_id, version.version",
        tenant.uuid(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let mut killed = Vec::new();
    for place in live {
        let token = TokenId::from(place.token_id);
        let row = VersionRow::by_number(transaction, tenant.uuid(), token, place.version).await?;
        let Some(row) = row else {
            continue;
        };
        kill(transaction, tenant, row).await?;
        // Damaged or not, nobody is to hold it any longer.
        killed.push((token, place.version));
    }
    Ok(killed)
}

/// Raises the epoch of a token other than the one that is written.
async fn raise_epoch(
    transaction: &mut PgConnection,
    tenant: &Tenant,
    id: TokenId,
) -> Result<(), sqlx::Error> {
    let Some(row) = TokenRow::by_id(transaction, tenant.uuid(), id).await? else {
        return Ok(());
    };
    match row.verify(tenant.keys()) {
        Ok(mut token) => {
            token.epoch = raise(token.epoch);
            token.to_row(tenant.keys()).write(transaction).await
        }
        // It denies as it is, and only its own spec can write it anew.
        Err(failure) => failure.record(transaction).await.map(drop),
    }
}

/// Whether a value was revoked on purpose in this tenant, and where.
pub(super) async fn find_revoked(
    connection: &mut PgConnection,
    tenant: &Tenant,
    secret_version: SecretVersion,
    fingerprint: &Fingerprint,
) -> Result<Option<RefusedValue>, sqlx::Error> {
    let row = sqlx::query!(
        "select token_id, version from revoked_value
         where tenant_id = $1 and secret_version = $2 and fingerprint = $3",
        tenant.uuid(),
        i32::from(secret_version),
        &fingerprint.as_bytes()[..],
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| RefusedValue::RevokedValueReused {
        token: row.token_id.into(),
        version: row.version.try_into().unwrap_or(TokenVersion::FIRST),
    }))
}
