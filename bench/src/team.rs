//! What a platform team does: users, Secrets and StoredTokens, through the Kubernetes API.

use std::time::Duration;

use bursar_crds::conditions::Condition;
use bursar_crds::names::{SOURCE_LABEL, SOURCE_LABEL_VALUE};
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The user that all tokens of the benchmarks belong to.
pub const USER: &str = "ana";
/// The service account that may act as that user.
pub const SERVICE_ACCOUNT: &str = "app";

const USABLE_LIMIT: Duration = Duration::from_secs(60);
const USABLE_POLL: Duration = Duration::from_millis(50);

/// Why the team cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The API server refused.
    #[error("{what}: {source}")]
    Kubernetes {
        /// What was asked of it.
        what: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The operator does not make the token usable.
    #[error("StoredToken {name} is not usable after {} s ({reason}); look at the operator's log",
        USABLE_LIMIT.as_secs())]
    NotUsable {
        /// The object.
        name: String,
        /// The reason in its status.
        reason: String,
    },
    /// The operator does not put the quota in force.
    #[error("TokenQuota {name} is not ready after {} s; look at the operator's log",
        USABLE_LIMIT.as_secs())]
    QuotaNotReady {
        /// The object.
        name: String,
    },
}

/// One namespace, with one user.
#[derive(Clone)]
pub struct Team {
    client: Client,
    namespace: String,
}

impl Team {
    /// Makes the user in an onboarded namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn new(client: Client, namespace: &str) -> Result<Self, TeamError> {
        let team = Self {
            client,
            namespace: namespace.to_owned(),
        };
        team.create::<TokenUser>(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenUser",
            "metadata": { "name": USER },
            "spec": {
                "role": "Member",
                "workloads": [{ "serviceAccountName": SERVICE_ACCOUNT, "access": "Always" }],
            },
        }))
        .await?;
        Ok(team)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Makes a token whose first value is `value`, and waits until it is usable.
    ///
    /// # Errors
    /// When the API server refuses, or the token is not usable within a minute.
    pub async fn add_token(&self, name: &str, value: &str) -> Result<(), TeamError> {
        self.create::<Secret>(json!({
            "metadata": { "name": name, "labels": { SOURCE_LABEL: SOURCE_LABEL_VALUE } },
            "type": "Opaque",
            "stringData": { "token": value },
        }))
        .await?;
        self.create::<StoredToken>(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "StoredToken",
            "metadata": { "name": name },
            "spec": {
                "userRef": { "name": USER },
                "provider": "example",
                "source": { "secretKeyRef": { "name": name, "key": "token" } },
            },
        }))
        .await?;
        self.until_usable(name).await
    }

    /// Limits how often the token may be read, for all time, and waits until the limit
    /// is in force.
    ///
    /// # Errors
    /// When the API server refuses, or the quota is not ready within a minute.
    pub async fn add_quota(&self, token: &str, limit: u64) -> Result<(), TeamError> {
        self.create::<TokenQuota>(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenQuota",
            "metadata": { "name": token },
            "spec": {
                "subject": { "tokenRef": { "name": token } },
                "counter": "accesses",
                "limit": limit,
                "window": { "type": "Lifetime" },
            },
        }))
        .await?;
        let quotas = self.api::<TokenQuota>();
        let ready = bursar_testbed::until(USABLE_LIMIT, USABLE_POLL, async || {
            let status = quotas.get(token).await.ok()?.status?;
            let is_ready = |it: &Condition| it.type_ == "Ready" && it.status == "True";
            status.conditions.iter().any(is_ready).then_some(())
        })
        .await;
        ready.ok_or_else(|| TeamError::QuotaNotReady {
            name: token.to_owned(),
        })
    }

    /// Puts another value into the token's Secret.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_value(&self, name: &str, value: &str) -> Result<(), TeamError> {
        let patch = json!({ "stringData": { "token": value } });
        self.patch::<Secret>(name, &patch).await
    }

    /// Takes back every version of the token up to `through_version`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn revoke(&self, name: &str, through_version: u32) -> Result<(), TeamError> {
        let patch = json!({ "spec": { "revocation": { "throughVersion": through_version } } });
        self.patch::<StoredToken>(name, &patch).await
    }

    async fn until_usable(&self, name: &str) -> Result<(), TeamError> {
        let tokens = self.api::<StoredToken>();
        let mut reason = None;
        let usable = bursar_testbed::until(USABLE_LIMIT, USABLE_POLL, async || {
            let status = tokens.get(name).await.ok()?.status?;
            reason = status.reason;
            status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Usable" && condition.status == "True")
                .then_some(())
        })
        .await;
        usable.ok_or_else(|| TeamError::NotUsable {
            name: name.to_owned(),
            reason: reason.unwrap_or_else(|| "no reason given".to_owned()),
        })
    }

    async fn create<K: Object>(&self, object: Value) -> Result<(), TeamError> {
        let what = format!("making a {} in {}", K::kind(&()), self.namespace);
        let object: K = serde_json::from_value(object)
            .map_err(|error| refused(&what)(kube::Error::SerdeError(error)))?;
        self.api::<K>()
            .create(&PostParams::default(), &object)
            .await
            .map_err(refused(&what))?;
        Ok(())
    }

    async fn patch<K: Object>(&self, name: &str, patch: &Value) -> Result<(), TeamError> {
        let what = format!("changing {} {}/{name}", K::kind(&()), self.namespace);
        self.api::<K>()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(refused(&what))?;
        Ok(())
    }

    fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// A namespaced kind that is known when this is compiled.
trait Object:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Object for K where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
{
}

fn refused(what: &str) -> impl FnOnce(kube::Error) -> TeamError {
    let what = what.to_owned();
    move |source| TeamError::Kubernetes {
        what,
        source: Box::new(source),
    }
}
