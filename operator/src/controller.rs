//! One attempt at one object, whatever its kind, and when the next one is due.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bursar_crds::conditions::{self, Condition, Summary};
use bursar_crds::reasons::{ConditionType, ReadyReason, Reason, UsableReason};
use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Category, IntegrityFailure, Tenant, VaultError};
use futures::{FutureExt, StreamExt, stream};
use kube::core::DeserializeGuard;
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use kube::{Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::directory::{Listed, Place};
use crate::failure::Failure;
use crate::kind::{Guarded, Objects, Ref, has_finalizer, is_deleted, place};
use crate::metrics::Outcome;
use crate::object::{
    Said, Status, Verdict, merge_status, news, read_conditions, remove_finalizer, with_verdict,
    write_status,
};

/// How an attempt at a readable object that is not being deleted went. If a time is given, it is
/// looked at again after that at the latest.
pub(crate) enum Progress {
    /// The vault holds what the spec says.
    Reconciled(Option<Duration>),
    /// The spec cannot be realised as it is; a condition says why.
    Refused(Option<Duration>),
    /// Nothing new can be stored yet; the object is woken when it can.
    Waiting(Option<Duration>),
}

/// A kind that is reconciled.
pub(crate) trait Reconciled: Listed {
    /// The status of the kind.
    type Status: Status;

    /// Attempts under way at once. Each holds at most one connection to the database, so that all
    /// kinds together leave some for brokers.
    const CONCURRENCY: u16 = 8;

    /// The object's status, if it has one.
    fn status(&self) -> Option<&Self::Status>;

    /// Makes the vault hold what the spec says, and the status say what became of it.
    fn reconcile(
        &self,
        object: &Guarded<Self>,
        context: &Context,
    ) -> impl Future<Output = Result<Progress, Failure>> + Send;

    /// What becomes of its values when it is deleted, for a kind that has some.
    fn deletion_policy(&self) -> Option<DeletionPolicy> {
        None
    }

    /// Makes the object's rows dead; it may have none. Without a policy the stored one holds.
    fn delete_rows(
        policy: Option<DeletionPolicy>,
        uid: Uuid,
        tenant: &Tenant,
        namespace: &str,
        context: &Context,
    ) -> impl Future<Output = Result<(), VaultError>> + Send;

    /// All objects of the kind.
    fn objects(context: &Context) -> &Objects<Self>;

    /// Its failures.
    fn backoff(context: &Context) -> &Backoff<Place>;
}

/// Reconciles the objects that are woken, until `stop` resolves; attempts under way are ended in
/// order then.
pub(crate) async fn run<K: Reconciled>(
    woken: UnboundedReceiver<Ref<K>>,
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let objects = K::objects(&context).clone();
    // What wakes an object is the directory alone, hence no stream of its own.
    Controller::for_stream(stream::pending(), objects)
        .with_config(controller::Config::default().concurrency(K::CONCURRENCY))
        .reconcile_on(UnboundedReceiverStream::new(woken))
        .graceful_shutdown_on(stop)
        .run(
            |object, context| attempt::<K>(object, context).boxed(),
            |_, never, _| match *never {},
            Arc::clone(&context),
        )
        .for_each(|result| {
            // An object that was woken and is gone by now: it will not fail again.
            if let Err(controller::Error::ObjectNotFound(gone)) = result {
                let place = (
                    gone.namespace.clone().unwrap_or_default(),
                    gone.name.clone(),
                );
                K::backoff(&context).succeeded(&place);
            }
            std::future::ready(())
        })
        .await;
}

async fn attempt<K: Reconciled>(
    object: Arc<Guarded<K>>,
    context: Arc<Context>,
) -> Result<Action, Infallible> {
    let place = place(&*object);
    let backoff = K::backoff(&context);
    let (outcome, action) = match progress(&object, &context).await {
        Ok((outcome, Progress::Reconciled(again))) => {
            backoff.succeeded(&place);
            (outcome, look_again(again))
        }
        Ok((outcome, Progress::Waiting(again))) => (outcome, look_again(again)),
        // Not everything that would mend it is watched: an unlabelled Secret, for one.
        Ok((outcome, Progress::Refused(again))) => {
            let pause = backoff.failed(&place);
            (outcome, Action::requeue(again.unwrap_or(pause).min(pause)))
        }
        Err(failure) if failure.is_superseded() => {
            context.superseded.stop();
            (failure.outcome(), Action::await_change())
        }
        Err(failure) => {
            let pause = backoff.failed(&place);
            failed(&object, &failure, backoff.failures(&place), &context).await;
            (failure.outcome(), Action::requeue(pause))
        }
    };
    context.metrics.reconciled(K::METRIC, outcome);
    Ok(action)
}

fn look_again(after: Option<Duration>) -> Action {
    after.map_or_else(Action::await_change, Action::requeue)
}

async fn progress<K: Reconciled>(
    object: &Guarded<K>,
    context: &Context,
) -> Result<(Outcome, Progress), Failure> {
    if is_deleted(object) {
        delete(object, context).await?;
        return Ok((Outcome::Deleted, Progress::Reconciled(None)));
    }
    let DeserializeGuard(Ok(readable)) = object else {
        undecodable(object, context).await?;
        return Ok((Outcome::Undecodable, Progress::Refused(None)));
    };
    let progress = readable.reconcile(object, context).await?;
    let outcome = match progress {
        Progress::Reconciled(_) => Outcome::Reconciled,
        Progress::Refused(_) => Outcome::Refused,
        Progress::Waiting(_) => Outcome::Waiting,
    };
    Ok((outcome, progress))
}

async fn failed<K: Reconciled>(
    object: &Guarded<K>,
    failure: &Failure,
    failures: u32,
    context: &Context,
) {
    let (namespace, name) = place(object);
    let kind = K::METRIC;
    match failure.outcome() {
        Outcome::Waiting => tracing::debug!(?kind, namespace, name, "waits: {failure}"),
        _ => tracing::warn!(
            ?kind,
            namespace,
            name,
            failures,
            "not reconciled: {failure}"
        ),
    }
    let DeserializeGuard(Ok(readable)) = object else {
        return;
    };
    let Some(verdict) = failure.verdict(failures) else {
        return;
    };
    if let Err(error) = tell(readable, object, &verdict, context).await {
        tracing::warn!(?kind, namespace, name, %error, "the status was not written");
    }
}

/// Writes the verdict into the status, if that changes it; and tells the news.
pub(crate) async fn tell<K: Reconciled>(
    readable: &K,
    object: &Guarded<K>,
    verdict: &Verdict,
    context: &Context,
) -> Result<(), kube::Error> {
    let before = readable.status().cloned().unwrap_or_default();
    let generation = readable.meta().generation;
    let after = with_verdict(before, verdict, generation, context.clock.now());
    write_if_changed(readable, object, after, context).await
}

/// Writes a status, if it is another than before; and tells the news in it.
pub(crate) async fn write_if_changed<K: Reconciled>(
    readable: &K,
    object: &Guarded<K>,
    mut after: K::Status,
    context: &Context,
) -> Result<(), kube::Error> {
    if readable.status() == Some(&after) {
        return Ok(());
    }
    write_status(&context.client, object, &after).await?;
    publish(object, readable.conditions(), after.conditions(), context).await;
    Ok(())
}

async fn publish<K: Reconciled>(
    object: &Guarded<K>,
    before: &[Condition],
    after: &[Condition],
    context: &Context,
) {
    for news in news(before, after) {
        if news.warning {
            context
                .events
                .warning(object, &news.reason, &news.note)
                .await;
        } else {
            context
                .events
                .normal(object, &news.reason, &news.note)
                .await;
        }
    }
}

/// Tells of rows that somebody changed, unless the object says so already.
pub(crate) async fn warn_of_damage<K: Reconciled>(
    object: &Guarded<K>,
    conditions: &[Condition],
    damaged: &[IntegrityFailure],
    context: &Context,
) {
    let known = conditions
        .iter()
        .any(|condition| condition.reason == UsableReason::IntegrityFailure.as_str());
    for failure in damaged.iter().filter(|_| !known) {
        let reason = UsableReason::IntegrityFailure.as_str();
        context
            .events
            .warning(object, reason, &failure.to_string())
            .await;
    }
}

/// Deletion always finishes: whatever the object looks like, and whatever is missing.
async fn delete<K: Reconciled>(object: &Guarded<K>, context: &Context) -> Result<(), Failure> {
    if !has_finalizer(object) {
        // No row was ever written, or they are dead already.
        return Ok(());
    }
    let uid = uid(object)?;
    let (namespace, name) = place(object);
    let DeserializeGuard(readable) = object;
    let deleted = match context.tenant(&namespace).await {
        Ok(Some(tenant)) => {
            let policy = readable.as_ref().ok().and_then(K::deletion_policy);
            let deleted = K::delete_rows(policy, uid, &tenant, &namespace, context).await;
            deleted.map_err(Failure::from)
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match deleted {
        Ok(()) => {}
        // The namespace was recreated: all its rows are dead.
        Err(Failure::Vault(VaultError::TenantRetired { .. })) => {}
        // Rows that cannot be believed are served to nobody, so there is nothing to wait for.
        Err(Failure::Vault(error)) if error.category() == Category::Integrity => {
            tracing::error!(kind = ?K::METRIC, namespace, name, %error, "deleted all the same");
        }
        Err(error) => return Err(error),
    }
    if let Ok(readable) = readable
        && object.finalizers().len() > 1
    {
        // Others hold it back: until they let go, people see what became of it.
        tell(readable, object, &deleted_verdict(), context).await?;
    }
    remove_finalizer(&context.client, object).await?;
    Ok(())
}

fn deleted_verdict() -> Verdict {
    let message = "The object is being deleted; its rows in the vault are dead.";
    Verdict {
        ready: Said::new(ReadyReason::Reconciled, message),
        usable: Some(Said::new(UsableReason::Deleted, message)),
    }
}

/// An object that the API server has accepted, and that is none of its kind to this program.
async fn undecodable<K: Reconciled>(object: &Guarded<K>, context: &Context) -> Result<(), Failure> {
    let before = read_conditions(&context.client, object).await?;
    let mut after = before.clone();
    // Not the parser's words: they quote what they stumbled over.
    let message = "The API server accepted this object, and this version of bursar-operator \
                   cannot read it: install CRDs and operator of the same release, or write the \
                   object anew with the fields that kubectl explain shows.";
    let (generation, now) = (object.meta().generation, context.clock.now());
    conditions::set(
        &mut after,
        ReadyReason::Undecodable,
        message,
        generation,
        now,
    );
    if conditions::find(&after, ConditionType::Usable).is_none() {
        let unknown = "Not known; Ready says why.";
        conditions::set(&mut after, UsableReason::Pending, unknown, generation, now);
    }
    if before != after {
        let Summary { reason, message } = conditions::summary(&after);
        let status = json!({
            "observedGeneration": generation,
            "reason": reason,
            "message": message,
            "conditions": after,
        });
        merge_status(&context.client, object, &status).await?;
        publish(object, &before, &after, context).await;
    }
    Ok(())
}

/// The object's UID, by which the vault knows it.
pub(crate) fn uid<K: Resource>(object: &K) -> Result<Uuid, Failure> {
    let uid = object.uid().unwrap_or_default();
    uid.parse().map_err(|_| Failure::ForeignMetadata)
}
