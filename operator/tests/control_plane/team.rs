//! A namespace with people and tokens in it.

use std::fmt::Debug;

use bursar_crds::conditions::{Condition, find};
use bursar_crds::reasons::ConditionType;
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_testbed::{Handle, shared, until};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;

use crate::operator::{LIMIT, Operator, PAUSE, operator};

/// One namespace, as its administrator sees it.
pub(crate) struct Team {
    pub(crate) testbed: Handle,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) operator: &'static Operator,
    _in_use: Option<RwLockReadGuard<'static, ()>>,
}

/// A kind of ours, as tests look at it.
pub(crate) trait Ours:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
    fn conditions(&self) -> &[Condition];
}

impl Ours for TokenUser {
    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

impl Ours for StoredToken {
    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

impl Ours for TokenQuota {
    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

/// The status and reason of a condition, as `True Serving`.
pub(crate) fn said<K: Ours>(object: &K, type_: ConditionType) -> String {
    find(object.conditions(), type_).map_or_else(String::new, |condition| {
        format!("{} {}", condition.status, condition.reason)
    })
}

/// The sentence of `Ready`.
pub(crate) fn sentence<K: Ours>(object: &K) -> String {
    let ready = find(object.conditions(), ConditionType::Ready);
    ready.map_or_else(String::new, |ready| ready.message.clone())
}

impl Team {
    /// A namespace of its own, onboarded.
    pub(crate) async fn new() -> Self {
        let team = Self::not_onboarded().await;
        team.onboard().await;
        team
    }

    /// A namespace of its own, which the operator may not read Secrets in.
    pub(crate) async fn not_onboarded() -> Self {
        let operator = operator().await;
        let in_use = operator.share().await;
        Self::in_hands(operator, Some(in_use)).await
    }

    /// The same as [`Team::new`], for a test that has taken the operator.
    pub(crate) async fn of_taken(operator: &'static Operator) -> Self {
        let team = Self::in_hands(operator, None).await;
        team.onboard().await;
        team
    }

    async fn in_hands(
        operator: &'static Operator,
        in_use: Option<RwLockReadGuard<'static, ()>>,
    ) -> Self {
        let testbed = shared();
        let client = testbed.client().await.unwrap();
        let namespace = testbed.namespace("team").await.unwrap();
        Self {
            testbed,
            client,
            namespace,
            operator,
            _in_use: in_use,
        }
    }

    /// Lets the operator read Secrets here.
    pub(crate) async fn onboard(&self) {
        self.testbed.onboard(&self.namespace).await.unwrap();
    }

    /// Takes that back.
    pub(crate) async fn offboard(&self) {
        use k8s_openapi::api::rbac::v1::RoleBinding;
        self.api::<RoleBinding>()
            .delete("bursar", &DeleteParams::default())
            .await
            .unwrap();
    }

    /// A user of that name whom the service account `app` may act as.
    pub(crate) async fn user(&self, name: &str) {
        self.user_with(name, json!({})).await;
    }

    /// The same, with more in its spec, or other.
    pub(crate) async fn user_with(&self, name: &str, more: Value) {
        let mut spec = json!({ "workloads": [{ "serviceAccountName": "app" }] });
        let (spec_fields, more) = (spec.as_object_mut().unwrap(), more.as_object().unwrap());
        spec_fields.extend(more.clone());
        self.apply(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenUser",
            "metadata": { "name": name },
            "spec": spec,
        }))
        .await;
    }

    /// A labelled Secret with one value under the key `token`.
    pub(crate) async fn secret(&self, name: &str, value: &str) {
        self.secret_with(name, "Opaque", true, &[("token", value.as_bytes())])
            .await;
    }

    /// A Secret.
    pub(crate) async fn secret_with(
        &self,
        name: &str,
        type_: &str,
        labelled: bool,
        data: &[(&str, &[u8])],
    ) {
        use k8s_openapi::ByteString;
        let data: std::collections::BTreeMap<_, _> = data
            .iter()
            .map(|(key, value)| (*key, ByteString(value.to_vec())))
            .collect();
        let labels = if labelled {
            json!({ "bursar.dev/source": "true" })
        } else {
            json!({})
        };
        self.apply(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name, "labels": labels },
            "type": type_,
            "data": data,
        }))
        .await;
    }

    /// A token of `user` from the key `token` of the Secret of the same name.
    pub(crate) async fn token(&self, name: &str, user: &str) {
        self.token_with(name, user, json!({})).await;
    }

    /// The same, with more in its spec, or other.
    pub(crate) async fn token_with(&self, name: &str, user: &str, more: Value) {
        let mut spec = json!({
            "userRef": { "name": user },
            "provider": "example",
            "source": { "secretKeyRef": { "name": name, "key": "token" } },
        });
        let (spec_fields, more) = (spec.as_object_mut().unwrap(), more.as_object().unwrap());
        spec_fields.extend(more.clone());
        self.apply(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "StoredToken",
            "metadata": { "name": name },
            "spec": spec,
        }))
        .await;
    }

    /// A quota of 10 accesses for good, with more in its spec, or other.
    pub(crate) async fn quota(&self, name: &str, more: Value) {
        let mut spec = json!({
            "counter": "accesses",
            "limit": 10,
            "window": { "type": "Lifetime" },
        });
        let (spec_fields, more) = (spec.as_object_mut().unwrap(), more.as_object().unwrap());
        spec_fields.extend(more.clone());
        self.apply(json!({
            "apiVersion": "bursar.dev/v1alpha1",
            "kind": "TokenQuota",
            "metadata": { "name": name },
            "spec": spec,
        }))
        .await;
    }

    /// Applies an object, by server-side apply.
    pub(crate) async fn apply(&self, object: Value) {
        let version = object["apiVersion"].as_str().unwrap().to_owned();
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&kind);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("test").force();
        Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource)
            .patch(&name, &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    /// Deletes an object of ours, and waits until it is gone.
    pub(crate) async fn delete<K: Ours>(&self, name: &str) {
        self.api::<K>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        let gone = async || match self.api::<K>().get_opt(name).await.unwrap() {
            Some(_) => None,
            None => Some(()),
        };
        let gone = until(LIMIT, PAUSE, gone).await;
        assert!(
            gone.is_some(),
            "{name} stays: {:?}",
            self.api::<K>().get_opt(name).await
        );
    }

    /// The object, once its condition is as said, at its present generation.
    pub(crate) async fn wait<K: Ours>(&self, name: &str, type_: ConditionType, want: &str) -> K {
        self.wait_for(name, want, |object: &K| {
            let observed = find(object.conditions(), type_).and_then(|c| c.observed_generation);
            said(object, type_) == want && observed == object.meta().generation
        })
        .await
    }

    /// The object, once it is as wanted.
    pub(crate) async fn wait_for<K: Ours>(
        &self,
        name: &str,
        want: &str,
        is: impl Fn(&K) -> bool,
    ) -> K {
        let found = until(LIMIT, PAUSE, async || self.get::<K>(name).await.filter(&is)).await;
        match found {
            Some(object) => object,
            None => panic!("{name} is not {want}: {:#?}", self.get::<K>(name).await),
        }
    }

    /// The token, once it serves a version.
    pub(crate) async fn serving(&self, name: &str, version: i64) -> StoredToken {
        self.wait_for(
            name,
            &format!("serving version {version}"),
            |token: &StoredToken| {
                said(token, ConditionType::Ready) == "True Reconciled"
                    && said(token, ConditionType::Usable) == "True Serving"
                    && token.status.as_ref().and_then(|status| status.version) == Some(version)
            },
        )
        .await
    }

    /// The token, once `Ready` is false for a reason.
    pub(crate) async fn refused(&self, name: &str, reason: &str) -> StoredToken {
        self.wait(name, ConditionType::Ready, &format!("False {reason}"))
            .await
    }

    /// An object of ours, if it is there.
    pub(crate) async fn get<K: Ours>(&self, name: &str) -> Option<K> {
        self.api::<K>().get_opt(name).await.unwrap()
    }

    /// The reasons of all events about an object, oldest first, with their notes.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let mut events = self
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items;
        events.retain(|event| {
            let about = event
                .regarding
                .as_ref()
                .and_then(|regarding| regarding.name.as_deref());
            about == Some(name)
        });
        events.sort_by_key(|event| event.creation_timestamp().map(|time| time.0));
        let told = |event: Event| {
            (
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default(),
            )
        };
        events.into_iter().map(told).collect()
    }

    /// Waits for an event about an object.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> String {
        let found = until(LIMIT, PAUSE, async || {
            let events = self.events(name).await;
            events
                .into_iter()
                .find(|event| event.0 == reason)
                .map(|event| event.1)
        });
        match found.await {
            Some(note) => note,
            None => panic!("no event {reason} among {:?}", self.events(name).await),
        }
    }

    /// The Secrets here, or any other kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Removes a Secret.
    pub(crate) async fn remove_secret(&self, name: &str) {
        self.api::<Secret>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
}
