//! Whom a quota is about, and which quotas its namespace has.

use std::collections::BTreeSet;

use bursar_crds::TokenQuota;
use bursar_vault::QuotaId;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use uuid::Uuid;

use crate::context::Context;
use crate::kind::{Kind, Objects, has_finalizer, is_deleted, place};

/// The UID of the user or token that the quota names; `None` when that is not there, or when it
/// names none.
pub(super) fn subject(quota: &TokenQuota, context: &Context) -> Option<Uuid> {
    let (namespace, _) = place(quota);
    let subject = &quota.spec.subject;
    if let Some(user) = &subject.user_ref {
        uid(&context.lists.users, &namespace, &user.name)
    } else if let Some(token) = &subject.token_ref {
        uid(&context.lists.tokens, &namespace, &token.name)
    } else {
        None
    }
}

fn uid<K: Kind>(objects: &Objects<K>, namespace: &str, name: &str) -> Option<Uuid> {
    let object = objects.get(&ObjectRef::new(name).within(namespace))?;
    // One that is being deleted is served, or serves, no more.
    let uid = object.uid().filter(|_| !is_deleted(&*object))?;
    uid.parse().ok()
}

/// The quotas of a namespace that may have a row in the vault, readable or not. One without our
/// finalizer has none, and one on a list that has no row would be missed there.
///
/// From the store, which is complete before the first attempt, and not from the directory, which
/// hears of one object after the other.
pub(super) fn existing(namespace: &str, context: &Context) -> BTreeSet<QuotaId> {
    let all = context.lists.quotas.state();
    let here = all.iter().filter(|quota| {
        quota.namespace().as_deref() == Some(namespace) && has_finalizer(&***quota)
    });
    here.filter_map(|quota| quota.uid()?.parse::<Uuid>().ok())
        .map(QuotaId::from)
        .collect()
}
