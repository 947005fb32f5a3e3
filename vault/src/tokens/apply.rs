//! From a StoredToken's spec and its source to rows: read, plan, write.

use bursar_seal::{FingerprintKey, TokenVersion};
use sqlx::PgConnection;

use super::delete::end_token;
use super::plan::Plan;
use super::spec::{RefusedValue, Serving, Source, TokenSpec, TokenState};
use super::stored::Stored;
use super::versions::{end_revoked, find_revoked, kill_versions, remember_revoked, seal};
use crate::changes;
use crate::controllers::Controllers;
use crate::error::{KeyError, VaultError};
use crate::generate::GenerateSpec;
use crate::integrity;
use crate::rows::{ConsumerRow, DeletionPolicy, Origin, Token, raise};
use crate::tenant::Tenant;
use crate::value::TokenValue;

/// What the source has, with the key to recognise it.
#[derive(Clone, Copy)]
enum Offer<'a> {
    Nothing,
    Value(&'a TokenValue, &'a FingerprintKey),
    Generated(&'a GenerateSpec, &'a FingerprintKey),
}

/// What becomes of the offer.
#[derive(Clone, Copy)]
enum Decision {
    /// There is nothing to store.
    Keep,
    /// It may not be stored.
    Refuse(RefusedValue),
    /// It becomes this version.
    Store(TokenVersion),
}

impl Controllers {
    /// Makes the vault's rows say what the spec says, and stores the source's
    /// value as a new version unless it is the newest already. Writes nothing
    /// when nothing changed.
    ///
    /// A live token of the same name and another id is gone: it is deleted
    /// first, as `Retain` whatever its policy.
    ///
    /// # Errors
    /// [`VaultError::UserNotFound`]; [`VaultError::RowRolledBack`] (the spec is
    /// applied then, and nothing is served); [`VaultError::TermSuperseded`];
    /// [`VaultError::TenantRetired`]; [`VaultError::Integrity`] for a row of the
    /// tenant or the user; or the database.
    pub async fn apply_token(
        &self,
        tenant: &Tenant,
        spec: &TokenSpec,
        source: Source<'_>,
    ) -> Result<TokenState, VaultError> {
        let applied = self.apply(tenant, spec, source).await;
        if let Err(VaultError::Integrity(failure)) = &applied {
            failure.record(self.vault().pool()).await?;
        }
        applied
    }

    async fn apply(
        &self,
        tenant: &Tenant,
        spec: &TokenSpec,
        source: Source<'_>,
    ) -> Result<TokenState, VaultError> {
        let mut connection = self.vault().pool().acquire().await?;
        let key = tenant.keys().fingerprint_key(&mut connection).await;
        drop(connection);
        match (key, source) {
            (Ok(_), Source::Unavailable) => self.apply_offer(tenant, spec, Offer::Nothing).await,
            (Ok(key), Source::SecretKeyRef(value)) => {
                self.apply_offer(tenant, spec, Offer::Value(value, key))
                    .await
            }
            (Ok(key), Source::Generate(generate)) => {
                self.apply_offer(tenant, spec, Offer::Generated(generate, key))
                    .await
            }
            // Without the key no value is recognised and none can be stored; but
            // what the spec takes away is taken away.
            (Err(VaultError::Integrity(failure)), _) => {
                self.apply_offer(tenant, spec, Offer::Nothing).await?;
                Err(failure.into())
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn apply_offer(
        &self,
        tenant: &Tenant,
        spec: &TokenSpec,
        offer: Offer<'_>,
    ) -> Result<TokenState, VaultError> {
        let mut snapshot = self.snapshot().await?;
        let stored = Stored::read(&mut snapshot, tenant, spec).await?;
        let plan = Plan::new(&stored, spec);
        let decision = decide(&mut snapshot, tenant, &stored, &plan, offer).await?;
        snapshot.commit().await?;
        integrity::record_all(self.vault(), &stored.damaged).await?;
        if plan.is_empty(&stored) && !matches!(decision, Decision::Store(_)) {
            return finish(stored, &plan, decision);
        }
        self.write(tenant, spec, offer).await
    }

    async fn write(
        &self,
        tenant: &Tenant,
        spec: &TokenSpec,
        offer: Offer<'_>,
    ) -> Result<TokenState, VaultError> {
        let (mut transaction, tenant) = self.begin_in(tenant.id()).await?;
        let tenant = &tenant;
        let stored = Stored::read(&mut transaction, tenant, spec).await?;
        let mut plan = Plan::new(&stored, spec);
        for failure in &stored.damaged {
            failure.record(&mut *transaction).await?;
        }

        let mut ended_elsewhere = false;
        let mut changes = Vec::new();
        if let Some(gone) = stored.rival.clone() {
            let policy = DeletionPolicy::Retain;
            changes.extend(end_token(&mut transaction, tenant, gone, policy).await?);
        }
        if let Some(through) = plan.kill {
            kill_versions(&mut transaction, tenant, spec.id, Some(through)).await?;
        }
        if let Some(through) = plan.remember {
            let token = (spec.id, &spec.name);
            remember_revoked(&mut transaction, tenant, token, through).await?;
        }
        if plan.remember.is_some() || plan.newest_is_revoked {
            let ended = end_revoked(&mut transaction, tenant, spec.id).await?;
            plan.newest_is_revoked |= ended.has(spec.id, plan.token.newest_version);
            ended_elsewhere = !ended.elsewhere.is_empty();
            changes.extend(ended.elsewhere);
        }
        // After the revoked values were remembered, and under the tenant's lock:
        // no other token of the tenant is revoking this value right now.
        let decision = decide(&mut transaction, tenant, &stored, &plan, offer).await?;

        let stores = matches!(decision, Decision::Store(_));
        changes.extend(plan.changes(&stored, stores));
        let token = final_token(&plan, decision, !changes.is_empty());
        if stored.token.as_ref() != Some(&token) {
            token.to_row(tenant.keys()).write(&mut transaction).await?;
        }
        for name in &plan.removed {
            ConsumerRow::delete(&mut transaction, tenant.uuid(), spec.id, name).await?;
        }
        for consumer in &plan.added {
            consumer
                .to_row(spec.id, tenant.keys())
                .write(&mut transaction)
                .await?;
        }
        if let Decision::Store(version) = decision {
            self.store(&mut transaction, tenant, spec, version, offer, &stored)
                .await?;
        }
        changes::append(&mut transaction, tenant.shard(), tenant.id(), &changes).await?;
        transaction.commit().await?;
        Ok(TokenState {
            ended_elsewhere,
            ..finish(stored, &plan, decision)?
        })
    }

    async fn store(
        &self,
        transaction: &mut PgConnection,
        tenant: &Tenant,
        spec: &TokenSpec,
        version: TokenVersion,
        offer: Offer<'_>,
        stored: &Stored,
    ) -> Result<(), VaultError> {
        let random = self.vault().random();
        let generated;
        let (value, origin, key) = match offer {
            Offer::Nothing => return Ok(()),
            Offer::Value(value, key) => (value, Origin::SecretKeyRef, key),
            Offer::Generated(generate, key) => {
                generated = generate.generate(random).map_err(KeyError::from)?;
                (&generated, Origin::Generate, key)
            }
        };
        let row = seal(
            tenant,
            (spec.id, version),
            value,
            origin,
            key,
            stored.now,
            random,
        )?;
        row.insert(transaction).await?;
        Ok(())
    }
}

/// What becomes of the offer, once the plan is carried out.
async fn decide(
    connection: &mut PgConnection,
    tenant: &Tenant,
    stored: &Stored,
    plan: &Plan,
    offer: Offer<'_>,
) -> Result<Decision, VaultError> {
    if plan.rolled_back.is_some() {
        return Ok(Decision::Keep);
    }
    let live = plan.live(stored);
    match offer {
        Offer::Nothing => return Ok(Decision::Keep),
        Offer::Generated(..) if live.is_some() => return Ok(Decision::Keep),
        Offer::Generated(..) => {}
        Offer::Value(value, key) => {
            let fingerprint = key.fingerprint(value.expose());
            let same = |version: &&crate::rows::Version| {
                version.secret_version == key.version() && version.fingerprint == fingerprint
            };
            if live.filter(same).is_some() {
                return Ok(Decision::Keep);
            }
            let revoked = find_revoked(connection, tenant, key.version(), &fingerprint).await?;
            if let Some(refused) = revoked {
                return Ok(Decision::Refuse(refused));
            }
        }
    }
    Ok(match plan.next_version() {
        Some(version) => Decision::Store(version),
        None => Decision::Refuse(RefusedValue::VersionsExhausted),
    })
}

/// The token's row as it is to be written.
fn final_token(plan: &Plan, decision: Decision, heard_of: bool) -> Token {
    let mut token = plan.token.clone();
    if let Decision::Store(version) = decision {
        token.newest_version = Some(version);
    }
    if heard_of {
        token.epoch = raise(token.epoch);
    }
    token
}

fn finish(stored: Stored, plan: &Plan, decision: Decision) -> Result<TokenState, VaultError> {
    if let Some(known) = plan.rolled_back {
        let row = stored.newest_version.map_or(0, TokenVersion::get);
        return Err(VaultError::RowRolledBack {
            token: plan.token.id,
            stored: row,
            known: known.get(),
        });
    }
    let (newest_version, version_time) = match decision {
        Decision::Store(version) => (Some(version), Some(stored.now)),
        _ => (
            stored.newest_version,
            stored.newest.as_ref().map(|newest| newest.version_time),
        ),
    };
    let serving = serving(&stored, plan, decision);
    let expiration_time = plan.token.expiration_time;
    Ok(TokenState {
        newest_version,
        version_time: version_time.and_then(|time| time.timestamp()),
        through_version: plan.token.through_version,
        api_through_version: plan.token.api_through_version,
        serving,
        expires_in: expiration_time
            .filter(|_| serving == Serving::Serving)
            .map(|time| time.since(stored.now)),
        stored_new_version: matches!(decision, Decision::Store(_)),
        ended_elsewhere: false,
        refused: match decision {
            Decision::Refuse(refused) => Some(refused),
            _ => None,
        },
        damaged: stored.damaged,
    })
}

/// Whether a read would succeed now, in the order in which a broker is told.
fn serving(stored: &Stored, plan: &Plan, decision: Decision) -> Serving {
    let stores = matches!(decision, Decision::Store(_));
    let expired = plan
        .token
        .expiration_time
        .is_some_and(|time| time <= stored.now);
    let newest = stored.newest_version;
    if stored.user.suspended {
        Serving::UserSuspended
    } else if stores || plan.live(stored).is_some() {
        if expired {
            Serving::Expired
        } else {
            Serving::Serving
        }
    } else if newest.is_some() && newest <= plan.token.through_version {
        Serving::RevokedBySpec
    } else if newest.is_some() && newest <= plan.token.api_through_version {
        Serving::RevokedByAPI
    } else if newest.is_some() && stored.newest.is_none() {
        Serving::IntegrityFailure
    } else {
        Serving::NoVersion
    }
}
