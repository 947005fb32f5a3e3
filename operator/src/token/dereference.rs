//! What a token names: its user and its Secret.

use std::sync::Arc;

use bursar_crds::reasons::ReadyReason;
use bursar_crds::{SecretKeyRef, StoredToken};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;
use crate::kind::{is_deleted, place};
use crate::object::Said;
use crate::secrets::{Presence, SourceSecret, probe};

/// What a token names, as far as it is there.
pub(super) struct Found {
    /// The user.
    pub(super) user: Option<FoundUser>,
    /// Where the value is.
    pub(super) source: FoundSource,
}

/// The user of a token.
pub(super) struct FoundUser {
    pub(super) uid: Uuid,
    /// The service accounts that may act as the user; `None` when its object cannot be read.
    pub(super) workloads: Option<Vec<String>>,
}

/// What is there of a token's source.
pub(super) enum FoundSource {
    /// Secrets may not be read, and what would let them be.
    NotOnboarded(Said<ReadyReason>),
    /// No such Secret.
    Absent,
    /// The Secret is not meant for Bursar.
    Unlabelled,
    /// The Secret is there, and about to be heard of.
    Arriving,
    /// The Secret.
    Secret(Arc<SourceSecret>),
    /// None is needed.
    Generated,
}

/// Looks both up in the lists; `secrets` is `None` where none may be read.
pub(super) async fn dereference(
    token: &StoredToken,
    secrets: Option<&Store<SourceSecret>>,
    context: &Context,
) -> Result<Found, Failure> {
    let (namespace, _) = place(token);
    let source = match (secrets, &token.spec.source.secret_key_ref) {
        (None, _) => FoundSource::NotOnboarded(context.onboarding.missing(&namespace)),
        (Some(_), None) => FoundSource::Generated,
        (Some(secrets), Some(wanted)) => source(wanted, &namespace, secrets, context).await?,
    };
    Ok(Found {
        user: user(token, &namespace, context),
        source,
    })
}

fn user(token: &StoredToken, namespace: &str, context: &Context) -> Option<FoundUser> {
    let user = ObjectRef::new(&token.spec.user_ref.name).within(namespace);
    let user = context.lists.users.get(&user)?;
    // One that is being deleted is served nothing any more.
    let uid = user.uid().filter(|_| !is_deleted(&*user))?.parse().ok()?;
    let DeserializeGuard(readable) = &*user;
    let workloads = readable.as_ref().ok().map(|user| {
        let workloads = user.spec.workloads.iter();
        workloads
            .map(|workload| workload.service_account_name.clone())
            .collect()
    });
    Some(FoundUser { uid, workloads })
}

async fn source(
    wanted: &SecretKeyRef,
    namespace: &str,
    secrets: &Store<SourceSecret>,
    context: &Context,
) -> Result<FoundSource, Failure> {
    if let Some(secret) = secrets.get(&ObjectRef::new(&wanted.name).within(namespace)) {
        return Ok(FoundSource::Secret(secret));
    }
    match probe(&context.client, namespace, &wanted.name).await {
        Ok(Presence::Absent) => Ok(FoundSource::Absent),
        Ok(Presence::Unlabelled) => Ok(FoundSource::Unlabelled),
        Ok(Presence::Arriving) => Ok(FoundSource::Arriving),
        // The right was taken away, and the watch has not noticed yet; or it was given by half.
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            context.onboarding.forbidden(namespace);
            let missing = context.onboarding.missing(namespace);
            Ok(FoundSource::NotOnboarded(missing))
        }
        Err(error) => Err(error.into()),
    }
}
