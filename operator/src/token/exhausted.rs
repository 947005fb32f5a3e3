//! Wakes the tokens that a quota on all their readers has begun or ceased to keep from being
//! served. Nobody tells the operator of a use, so it looks, once for all tokens of a namespace;
//! and counts how much of the quotas is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_crds::conditions::find;
use bursar_crds::reasons::{ConditionType, Reason, UsableReason};
use bursar_crds::{Enforcement, StoredToken, TokenQuota};
use bursar_seal::TokenId;
use bursar_vault::{Counter, UserUid};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use uuid::Uuid;

use crate::context::Context;
use crate::directory::{Listed, Place};
use crate::failure::Failure;
use crate::kind::{is_deleted, place};
use crate::metrics::{Enforced, QuotaUse};

/// A token that is served but for quotas.
struct Candidate {
    place: Place,
    token: TokenId,
    user: UserUid,
    told_exhausted: bool,
}

/// Looks for as long as it is polled.
pub(crate) async fn follow(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.timing.quota_check).await;
        context.metrics.quotas(&uses(&context));
        for (namespace, candidates) in candidates(&context) {
            if let Err(error) = look(&namespace, candidates, &context).await {
                tracing::warn!(
                    namespace,
                    %error,
                    "whether quotas keep tokens from being served is not known; trying again"
                );
            }
        }
    }
}

/// How much of each quota is used, as their statuses tell it; a default for each user has none.
fn uses(context: &Context) -> Vec<(Enforced, QuotaUse)> {
    let quotas = context.lists.quotas.state();
    let uses = quotas.iter().filter_map(|quota| {
        let DeserializeGuard(readable) = &**quota;
        let quota = readable.as_ref().ok()?;
        let used = quota.status.as_ref()?.used?;
        let usage = QuotaUse::of(used, quota.spec.limit);
        Some((quota.spec.enforcement.into(), usage))
    });
    uses.collect()
}

async fn look(
    namespace: &str,
    candidates: Vec<Candidate>,
    context: &Context,
) -> Result<(), Failure> {
    let Some(tenant) = context.tenant(namespace).await? else {
        return Ok(());
    };
    let tokens: Vec<_> = candidates.iter().map(|it| (it.token, it.user)).collect();
    let vault = context.vault.vault();
    let exhausted = vault.exhausted(&tenant, &tokens).await?;
    for candidate in candidates {
        if exhausted.contains_key(&candidate.token) != candidate.told_exhausted {
            StoredToken::wake(&context.directory, &candidate.place);
        }
    }
    Ok(())
}

/// By namespace: all where a quota may do that, and those that say so where none may any more.
fn candidates(context: &Context) -> BTreeMap<String, Vec<Candidate>> {
    let quotas = context.lists.quotas.state();
    let mut limited: BTreeMap<String, Vec<Candidate>> = quotas
        .iter()
        .filter_map(|quota| {
            let DeserializeGuard(readable) = &**quota;
            let is_shared = readable.as_ref().is_ok_and(limits_all_readers);
            let namespace = quota.namespace().filter(|_| is_shared)?;
            Some((namespace, Vec::new()))
        })
        .collect();
    for token in context.lists.tokens.state() {
        let DeserializeGuard(Ok(readable)) = &*token else {
            continue;
        };
        let Some(candidate) = candidate(readable) else {
            continue;
        };
        let namespace = &candidate.place.0;
        if candidate.told_exhausted {
            let of_namespace = limited.entry(namespace.clone()).or_default();
            of_namespace.push(candidate);
        } else if let Some(of_namespace) = limited.get_mut(namespace) {
            of_namespace.push(candidate);
        }
    }
    limited.retain(|_, candidates| !candidates.is_empty());
    limited
}

fn limits_all_readers(quota: &TokenQuota) -> bool {
    let spec = &quota.spec;
    spec.counter == Counter::accesses().as_str()
        && spec.enforcement == Enforcement::Enforce
        && spec.subject.service_account_name.is_none()
}

fn candidate(token: &StoredToken) -> Option<Candidate> {
    let status = token.status.as_ref().filter(|_| !is_deleted(token))?;
    let usable = find(&status.conditions, ConditionType::Usable)?;
    let told_exhausted = usable.reason == UsableReason::Exhausted.as_str();
    if !told_exhausted && usable.reason != UsableReason::Serving.as_str() {
        return None;
    }
    let token_id: Uuid = token.uid()?.parse().ok()?;
    let user: Uuid = status.user_uid.as_deref()?.parse().ok()?;
    Some(Candidate {
        place: place(token),
        token: token_id.into(),
        user: user.into(),
        told_exhausted,
    })
}
