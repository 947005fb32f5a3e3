//! StoredTokens: dereference, validate, apply, status.

mod beside;
mod dereference;
mod exhausted;
mod last_use;
mod readers;
mod validate;
mod verdict;

use std::time::Duration;

use bursar_crds::{StoredToken, StoredTokenStatus};
use bursar_seal::TokenId;
use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Tenant, TokenState, VaultError};
use jiff::Timestamp;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::controller::{Progress, Reconciled, tell, uid, warn_of_damage, write_if_changed};
use crate::directory::Place;
use crate::failure::Failure;
use crate::kind::{Guarded, Kind, Objects, has_finalizer, place};
use crate::object::{REVOCATION_COMPLETE, VALUE_ENDS_IN_WHITESPACE, VERSION_STORED, with_verdict};
use crate::secrets::Secrets;
use beside::Beside;
use validate::{SourceValue, Valid};
use verdict::Receipt;

pub(crate) use exhausted::follow as follow_exhausted;
pub(crate) use last_use::follow as follow_uses;

impl Reconciled for StoredToken {
    type Status = StoredTokenStatus;

    fn status(&self) -> Option<&StoredTokenStatus> {
        self.status.as_ref()
    }

    async fn reconcile(
        &self,
        object: &Guarded<Self>,
        context: &Context,
    ) -> Result<Progress, Failure> {
        let (namespace, _) = place(self);
        let secrets = match context.onboarding.secrets(&namespace) {
            Secrets::Unknown => return Ok(Progress::Waiting(None)),
            Secrets::NotOnboarded => None,
            Secrets::Readable(secrets) => Some(secrets),
        };
        // Without the finalizer nothing was ever stored, and nothing is until the namespace is
        // onboarded. With it, what was stored must still hear of a revocation.
        if secrets.is_none() && !has_finalizer(self) {
            let verdict = verdict::not_stored(context.onboarding.missing(&namespace));
            tell(self, object, &verdict, context).await?;
            return Ok(Progress::Waiting(None));
        }

        let found = dereference::dereference(self, secrets.as_ref(), context).await?;
        let valid = match validate::validate(self, uid(self)?, found) {
            Ok(Some(valid)) => valid,
            // The Secret is about to be heard of.
            Ok(None) => return Ok(Progress::Waiting(None)),
            Err(refused) => {
                tell(self, object, &refused, context).await?;
                return Ok(Progress::Refused(None));
            }
        };

        let tenant = context.tenant_to_write(self, object).await?;
        let state = context
            .vault
            .apply_token(&tenant, &valid.spec, valid.source.as_source())
            .await?;
        if state.ended_elsewhere {
            // Which tokens these are is not known here; the others find nothing to do.
            context.directory.namespace_changed(&namespace);
        }
        let now = context.clock.now();
        report(self, object, &valid, &state, context).await;

        let vault = context.vault.vault();
        let beside = Beside::ask(vault, &tenant, self, &valid, &state).await?;
        let verdict = verdict::stored(self, &valid, &state, &beside);
        let status = verdict::facts(self.status.as_ref(), &valid, &state, &beside);
        let status = with_verdict(status, &verdict, self.metadata.generation, now);
        // Before the status says that it was told, so that it is told whatever comes between.
        if let Some(Receipt { time, note }) = verdict::receipt(self.status.as_ref(), &beside.drain)
        {
            let reason = REVOCATION_COMPLETE;
            let events = &context.events;
            events.once(object, reason, &note, time, now).await?;
        }
        write_if_changed(self, object, status, context).await?;
        Ok(verdict::progress(
            &verdict,
            &state,
            &beside,
            secrets.is_some(),
        ))
    }

    fn deletion_policy(&self) -> Option<DeletionPolicy> {
        Some(validate::policy(self.spec.deletion_policy))
    }

    async fn delete_rows(
        policy: Option<DeletionPolicy>,
        uid: Uuid,
        tenant: &Tenant,
        _: &str,
        context: &Context,
    ) -> Result<(), VaultError> {
        context
            .vault
            .delete_token(tenant, TokenId::from(uid), policy)
            .await
    }

    fn objects(context: &Context) -> &Objects<Self> {
        &context.lists.tokens
    }

    fn backoff(context: &Context) -> &Backoff<Place> {
        &context.tokens_backoff
    }
}

/// Tells what the vault did beside holding the spec.
async fn report(
    token: &StoredToken,
    object: &Guarded<StoredToken>,
    valid: &Valid,
    state: &TokenState,
    context: &Context,
) {
    warn_of_damage(object, token.conditions(), &state.damaged, context).await;
    let (true, Some(version)) = (state.stored_new_version, state.newest_version) else {
        return;
    };
    let (namespace, name) = place(token);
    tracing::info!(
        namespace,
        name,
        version = version.get(),
        "a new version was stored"
    );
    let version_before = token
        .status
        .as_ref()
        .and_then(|status| status.version_time.as_ref());
    let version_before = version_before.map(|time| time.0);
    let took = since_heard(valid.heard, version_before, context.clock.now());
    context.metrics.version_stored(took);
    let from = match &valid.source {
        SourceValue::Generate(_) => "made by the vault",
        _ => "from its Secret",
    };
    let note = format!("Version {version}, {from}, was stored.");
    context.events.normal(object, VERSION_STORED, &note).await;
    if valid.source.ends_in_whitespace() {
        let note = format!(
            "Version {version} ends in a newline or other whitespace, which is nearly always a \
             mistake; it is served byte for byte as the Secret has it. To store the value \
             without, write its file with printf %s (an editor or echo adds a newline), or give \
             it in stringData, and apply the Secret again."
        );
        let reason = VALUE_ENDS_IN_WHITESPACE;
        context.events.warning(object, reason, &note).await;
    }
}

/// How long the change of the Secret took to be stored. Not for a Secret whose last change is
/// older than the version before: then something else called for the new one.
fn since_heard(
    heard: Option<Timestamp>,
    version_before: Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    let heard = heard.filter(|heard| version_before.is_none_or(|before| before <= *heard))?;
    Duration::try_from(now.duration_since(heard)).ok()
}
