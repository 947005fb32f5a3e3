//! Watch: what a broker must stop or renew, as it happens.

use bursar_wire::v1alpha1::{self, Event, event};
use uuid::Uuid;

use super::VaultService;
use super::error::CallError;
use super::incarnation::Claimed;
use super::watchers::EventStream;

/// What is to be done about open allowances that no longer stand.
#[derive(Debug, Default)]
pub(crate) struct Fallen {
    /// To be stopped at once.
    pub(crate) dead: Vec<Uuid>,
    /// To be replaced.
    pub(crate) superseded: Vec<Uuid>,
}

impl Fallen {
    /// What the holder is told.
    pub(crate) fn events(self) -> impl Iterator<Item = Event> {
        let texts =
            |ids: Vec<Uuid>| -> Vec<String> { ids.into_iter().map(|id| id.to_string()).collect() };
        let recall = (!self.dead.is_empty()).then(|| {
            event::Event::Recall(v1alpha1::Recall {
                allowance_ids: texts(self.dead),
            })
        });
        let supersede = (!self.superseded.is_empty()).then(|| {
            event::Event::Supersede(v1alpha1::Supersede {
                allowance_ids: texts(self.superseded),
            })
        });
        recall
            .into_iter()
            .chain(supersede)
            .map(|event| Event { event: Some(event) })
    }
}

impl VaultService {
    pub(crate) async fn watch(&self, claimed: Claimed) -> Result<EventStream, CallError> {
        let mut connection = self.vault().pool().acquire().await?;
        self.lock(&mut connection, &claimed).await?;
        drop(connection);
        // Registered first, then read: a change is in what is read, or is told.
        // So are the issuer's keys, which may have changed since the attach.
        let registration = self.watchers().register(claimed.id);
        let registration = registration.ok_or(CallError::ShuttingDown)?;
        let fallen = Fallen {
            dead: self.changed(&claimed).await?,
            superseded: Vec::new(),
        };
        let issuer = event::Event::WorkloadIssuer(self.trusted_issuer().document().into());
        let synced = event::Event::Synced(v1alpha1::Synced {});
        let last = [issuer, synced].map(|event| Event { event: Some(event) });
        Ok(registration.stream(fallen.events().chain(last).collect()))
    }

    /// What changed while this broker was not watching. How, is not known any
    /// more: it must ask again for all of it.
    async fn changed(&self, claimed: &Claimed) -> Result<Vec<Uuid>, CallError> {
        let changed = sqlx::query_scalar!(
            r#"select allowance_id as "allowance_id!" from allowance_standing
               where tenant_id = $1 and incarnation_id = $2 and standing <> 'Good'"#,
            claimed.id.tenant.as_uuid(),
            claimed.id.incarnation,
        )
        .fetch_all(self.vault().pool())
        .await?;
        Ok(changed)
    }
}
