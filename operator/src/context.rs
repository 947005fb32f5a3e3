//! What reconciling needs, whatever the object.

use std::sync::Arc;

use bursar_crds::conditions;
use bursar_crds::reasons::ConditionType;
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_vault::{Clock, Controllers, Namespace, NamespaceUid, Tenant, VaultError};
use k8s_openapi::api::core::v1::Namespace as KubernetesNamespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};

use crate::backoff::Backoff;
use crate::config::Timing;
use crate::controller::Reconciled;
use crate::directory::{Directory, Place};
use crate::failure::Failure;
use crate::kind::{Guarded, Objects, has_finalizer, place};
use crate::metrics::Metrics;
use crate::object::{Events, add_finalizer};
use crate::secrets::Onboarding;
use crate::stop::Stop;

/// A namespace without the rest of it.
pub(crate) type NamespaceMeta = PartialObjectMeta<KubernetesNamespace>;

/// The lists that stand in for reads from the API server.
pub(crate) struct Lists {
    pub(crate) namespaces: Store<NamespaceMeta>,
    pub(crate) users: Objects<TokenUser>,
    pub(crate) tokens: Objects<StoredToken>,
    pub(crate) quotas: Objects<TokenQuota>,
}

/// Shared by all attempts at all objects.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) vault: Controllers,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lists: Lists,
    pub(crate) directory: Arc<Directory>,
    pub(crate) onboarding: Arc<Onboarding>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) users_backoff: Backoff<Place>,
    pub(crate) tokens_backoff: Backoff<Place>,
    pub(crate) quotas_backoff: Backoff<Place>,
    pub(crate) timing: Timing,
    /// Given when another process reconciles now.
    pub(crate) superseded: Stop,
}

impl Context {
    /// The tenant that an object's rows go to, made if it is new. The object has the finalizer
    /// then.
    pub(crate) async fn tenant_to_write<K: Reconciled>(
        &self,
        readable: &K,
        object: &Guarded<K>,
    ) -> Result<Tenant, Failure> {
        let (namespace, _) = place(object);
        let (name, uid) = self.namespace(&namespace)?;
        // A namespace that was just recreated may still be listed as the one before it, whose
        // tenant is not this object's. What has rows is of the namespace listed. The finalizer
        // alone does not tell that: it may have come with a manifest, which a status cannot.
        let ready = conditions::find(readable.conditions(), ConditionType::Ready);
        let is_new = ready.is_none_or(|ready| ready.observed_generation.is_none());
        if is_new || !has_finalizer(object) {
            let namespaces = Api::<NamespaceMeta>::all(self.client.clone());
            let live = namespaces.get_opt(&namespace).await?;
            if live.and_then(|live| live.uid()).as_deref() != Some(uid.as_str()) {
                return Err(Failure::NamespaceNotListed(namespace));
            }
        }
        add_finalizer(&self.client, object).await?;
        Ok(self.vault.ensure_tenant(&name, &uid).await?)
    }

    /// The tenant of a namespace, if there is one.
    pub(crate) async fn tenant(&self, namespace: &str) -> Result<Option<Tenant>, Failure> {
        let (name, uid) = self.namespace(namespace)?;
        match self.vault.vault().tenant_of(&name, &uid).await {
            Err(VaultError::TenantRetired { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    fn namespace(&self, name: &str) -> Result<(Namespace, NamespaceUid), Failure> {
        let not_listed = || Failure::NamespaceNotListed(name.to_owned());
        let listed = self
            .lists
            .namespaces
            .get(&ObjectRef::new(name))
            .ok_or_else(not_listed)?;
        let uid = listed.uid().unwrap_or_default();
        match (Namespace::try_from(name), NamespaceUid::try_from(uid)) {
            (Ok(name), Ok(uid)) => Ok((name, uid)),
            // The API server has given neither such a name nor such a UID to a namespace.
            _ => Err(not_listed()),
        }
    }
}
