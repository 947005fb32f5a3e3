//! TokenQuotas: dereference, validate, apply, status.

mod dereference;
mod used;
mod validate;
mod verdict;

use bursar_crds::{TokenQuota, TokenQuotaStatus};
use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{QuotaId, Tenant, VaultError};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::controller::{Progress, Reconciled, tell, uid, warn_of_damage, write_if_changed};
use crate::directory::Place;
use crate::failure::Failure;
use crate::kind::{Guarded, Kind, Objects, has_finalizer, place};
use crate::object::with_verdict;
use crate::secrets::Secrets;

impl Reconciled for TokenQuota {
    type Status = TokenQuotaStatus;

    // Every quota is looked at again and again, and none of these looks is urgent.
    const CONCURRENCY: u16 = 2;

    fn status(&self) -> Option<&TokenQuotaStatus> {
        self.status.as_ref()
    }

    async fn reconcile(
        &self,
        object: &Guarded<Self>,
        context: &Context,
    ) -> Result<Progress, Failure> {
        let (namespace, _) = place(self);
        let not_onboarded = match context.onboarding.secrets(&namespace) {
            Secrets::Unknown => return Ok(Progress::Waiting(None)),
            Secrets::NotOnboarded => Some(context.onboarding.missing(&namespace)),
            Secrets::Readable(_) => None,
        };
        // Without the finalizer nothing was ever stored, and nothing is until the namespace is
        // onboarded. With it, what was stored must still hear of a lower limit.
        if let Some(why) = &not_onboarded
            && !has_finalizer(self)
        {
            let verdict = verdict::not_stored(why.clone());
            tell(self, object, &verdict, context).await?;
            return Ok(Progress::Waiting(None));
        }

        let generation = self.metadata.generation;
        let found = dereference::subject(self, context);
        let spec = match validate::validate(self, uid(self)?, found) {
            Ok(spec) => spec,
            // What was stored before stays, and counts what it counted.
            Err(invalid) => {
                let refused = invalid.verdict()?;
                let status = verdict::no_facts(self);
                let status = with_verdict(status, &refused, generation, context.clock.now());
                write_if_changed(self, object, status, context).await?;
                return Ok(Progress::Refused(None));
            }
        };

        let tenant = context.tenant_to_write(self, object).await?;
        let existing = dereference::existing(&namespace, context);
        let state = context.vault.apply_quota(&tenant, &spec, &existing).await?;
        warn_of_damage(object, self.conditions(), &state.damaged, context).await;

        let now = context.clock.now();
        let verdict = verdict::stored(not_onboarded, &spec, &state);
        let status = verdict::facts(self, &spec, &state, now);
        let status = with_verdict(status, &verdict, generation, now);
        write_if_changed(self, object, status, context).await?;
        let again = verdict::next_look(&state, now, context.timing.quota_check);
        Ok(Progress::Reconciled(Some(again)))
    }

    async fn delete_rows(
        _: Option<DeletionPolicy>,
        uid: Uuid,
        tenant: &Tenant,
        namespace: &str,
        context: &Context,
    ) -> Result<(), VaultError> {
        let existing = dereference::existing(namespace, context);
        context
            .vault
            .delete_quota(tenant, QuotaId::from(uid), &existing)
            .await
    }

    fn objects(context: &Context) -> &Objects<Self> {
        &context.lists.quotas
    }

    fn backoff(context: &Context) -> &Backoff<Place> {
        &context.quotas_backoff
    }
}
