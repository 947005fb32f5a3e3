//! What the operator needs to know of a kind of ours to watch it.

use std::fmt::Debug;
use std::hash::Hash;

use bursar_crds::conditions::Condition;
use bursar_crds::names::FINALIZER;
use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_vault::Email;
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::metrics;

/// An object as it came: readable as its kind, or not.
pub(crate) type Guarded<K> = DeserializeGuard<K>;
/// The objects of a kind, as last heard of.
pub(crate) type Objects<K> = Store<Guarded<K>>;
/// Which object.
pub(crate) type Ref<K> = ObjectRef<Guarded<K>>;

/// A kind of ours.
pub(crate) trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its name in metrics.
    const METRIC: metrics::Kind;
    /// Something that several objects of this kind can have in common, so that a change of one
    /// matters to the others.
    type Link: Clone + Eq + Hash + Send;

    /// What this object shares.
    fn links(&self) -> Vec<Self::Link>;

    /// What its status says.
    fn conditions(&self) -> &[Condition];
}

/// What users share within a namespace: an e-mail address that only one may have.
impl Kind for TokenUser {
    const METRIC: metrics::Kind = metrics::Kind::TokenUser;
    type Link = Email;

    fn links(&self) -> Vec<Email> {
        let email = self.spec.email.as_deref();
        email
            .and_then(|email| Email::try_from(email).ok())
            .into_iter()
            .collect()
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

/// What a token depends on in its namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum TokenLink {
    /// A TokenUser of this name.
    User(String),
    /// A Secret of this name.
    Secret(String),
}

impl Kind for StoredToken {
    const METRIC: metrics::Kind = metrics::Kind::StoredToken;
    type Link = TokenLink;

    fn links(&self) -> Vec<TokenLink> {
        let secret = self.spec.source.secret_key_ref.as_ref();
        let secret = secret.map(|secret| TokenLink::Secret(secret.name.clone()));
        let user = TokenLink::User(self.spec.user_ref.name.clone());
        [Some(user), secret].into_iter().flatten().collect()
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

/// Whose use a quota limits, when that is an object of its namespace.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum QuotaLink {
    /// A TokenUser of this name.
    User(String),
    /// A StoredToken of this name.
    Token(String),
}

impl Kind for TokenQuota {
    const METRIC: metrics::Kind = metrics::Kind::TokenQuota;
    type Link = QuotaLink;

    fn links(&self) -> Vec<QuotaLink> {
        let subject = &self.spec.subject;
        let user = subject.user_ref.as_ref();
        let user = user.map(|user| QuotaLink::User(user.name.clone()));
        let token = subject.token_ref.as_ref();
        let token = token.map(|token| QuotaLink::Token(token.name.clone()));
        [user, token].into_iter().flatten().collect()
    }

    fn conditions(&self) -> &[Condition] {
        self.status
            .as_ref()
            .map_or(&[], |status| &status.conditions)
    }
}

/// Where an object is. Both are set on every object the API server has accepted.
pub(crate) fn place<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// Whether the object may have rows in the vault.
pub(crate) fn has_finalizer<K: Resource>(object: &K) -> bool {
    object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Whether the object is being deleted.
pub(crate) fn is_deleted<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}
