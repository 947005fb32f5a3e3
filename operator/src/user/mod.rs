//! TokenUsers: dereference, validate, apply, status.

mod dereference;
mod validate;
mod verdict;

use bursar_crds::{TokenUser, TokenUserStatus};
use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Tenant, UserUid, VaultError};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::controller::{Progress, Reconciled, tell, uid, warn_of_damage};
use crate::directory::Place;
use crate::failure::Failure;
use crate::kind::{Guarded, Kind, Objects, has_finalizer, place};
use crate::secrets::Secrets;

impl Reconciled for TokenUser {
    type Status = TokenUserStatus;

    fn status(&self) -> Option<&TokenUserStatus> {
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
        // onboarded. With it, what was stored must still hear of a suspension.
        if let Some(why) = &not_onboarded
            && !has_finalizer(self)
        {
            let verdict = verdict::not_stored(why.clone());
            tell(self, object, &verdict, context).await?;
            return Ok(Progress::Waiting(None));
        }

        let rivals = dereference::rivals(self, context);
        let (spec, problem) = validate::validate(self, uid(self)?, &rivals)?;
        let problem = not_onboarded.or(problem);

        let tenant = context.tenant_to_write(self, object).await?;
        let state = context.vault.apply_user(&tenant, &spec).await?;
        warn_of_damage(object, self.conditions(), &state.damaged, context).await;

        let verdict = verdict::stored(problem, &spec, &state);
        tell(self, object, &verdict, context).await?;
        Ok(verdict::progress(&verdict))
    }

    async fn delete_rows(
        _: Option<DeletionPolicy>,
        uid: Uuid,
        tenant: &Tenant,
        _: &str,
        context: &Context,
    ) -> Result<(), VaultError> {
        context.vault.delete_user(tenant, UserUid::from(uid)).await
    }

    fn objects(context: &Context) -> &Objects<Self> {
        &context.lists.users
    }

    fn backoff(context: &Context) -> &Backoff<Place> {
        &context.users_backoff
    }
}
