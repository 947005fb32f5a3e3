//! The controllers of all kinds: their lists, the watches that fill these, and their end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_crds::{StoredToken, TokenQuota, TokenUser};
use bursar_seal::Random;
use bursar_vault::{Clock, Term, Vault};
use futures::StreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::audit::keep_checkpoints;
use crate::backoff::Backoff;
use crate::config::Timing;
use crate::context::{Context, Lists, NamespaceMeta};
use crate::controller::{self, Reconciled};
use crate::directory::{Directory, Listed, Woken};
use crate::feed::{Audience, feed};
use crate::gone::end_rows;
use crate::metrics::Metrics;
use crate::object::Events;
use crate::readiness::{Part, Readiness};
use crate::secrets::{Onboarding, OnboardingMeans};
use crate::stop::Stop;
use crate::tls::{Authority, Bundle};

const RETRY: Duration = Duration::from_secs(2);

/// What the controllers work with.
pub(crate) struct Means {
    pub(crate) client: Client,
    /// The operator's own.
    pub(crate) namespace: String,
    pub(crate) vault: Vault,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) timing: Timing,
    /// Told whenever the database is back.
    pub(crate) recovered: Arc<Notify>,
}

/// Reconciles in a new term, until `stop`, or until another process has taken the next term.
pub(crate) async fn run(means: Means, stop: &Stop) {
    // The watches end with this function.
    let mut watches = JoinSet::new();
    let (context, woken) = tokio::select! {
        started = start(&means, &mut watches) => started,
        () = stop.stopped() => return,
    };
    watches.spawn(end_rows(
        woken.gone,
        Arc::clone(&context),
        Arc::clone(&means.random),
    ));
    watches.spawn(wake_after_recovery(
        Arc::clone(&means.recovered),
        Arc::clone(&context),
    ));
    watches.spawn(drop_expired_records(Arc::clone(&context)));

    watches.spawn(keep_checkpoints(
        Arc::clone(&context),
        means.namespace.clone(),
    ));

    means.metrics.controllers_active(true);
    let end = Stop::new();
    let ending = async {
        tokio::select! {
            () = stop.stopped() => {}
            () = context.superseded.stopped() => tracing::warn!(
                "another process reconciles now: this one goes on to serve the vault only"
            ),
        }
        end.stop();
    };
    tokio::join!(
        controller::run::<TokenUser>(woken.users, Arc::clone(&context), end.stopped()),
        controller::run::<StoredToken>(woken.tokens, Arc::clone(&context), end.stopped()),
        controller::run::<TokenQuota>(woken.quotas, Arc::clone(&context), end.stopped()),
        ending,
    );
    means.metrics.controllers_active(false);
    tracing::info!("the controllers have ended");
}

/// Takes a term and fills the lists; what is heard of meanwhile waits in `Woken`.
async fn start(means: &Means, watches: &mut JoinSet<()>) -> (Arc<Context>, Woken) {
    let term = take_term(&means.vault).await;
    tracing::info!(%term, "the controllers start");

    let (directory, woken) = Directory::new();
    let directory = Arc::new(directory);
    let onboarding = Arc::new(Onboarding::new(OnboardingMeans {
        client: means.client.clone(),
        clock: Arc::clone(&means.clock),
        directory: Arc::clone(&directory),
        bundle: Bundle::new(
            means.client.clone(),
            means.authority.certificate_pem().to_owned(),
        ),
        metrics: Arc::clone(&means.metrics),
        timing: means.timing,
    }));
    let audience = Audience {
        directory: Arc::clone(&directory),
        onboarding: Arc::clone(&onboarding),
        readiness: Arc::clone(&means.readiness),
    };

    let (namespaces, writer) = reflector::store();
    watches.spawn(watch_namespaces(
        means.client.clone(),
        writer,
        Arc::clone(&directory),
    ));
    let (users, writer) = reflector::store();
    watches.spawn(feed::<TokenUser>(
        means.client.clone(),
        writer,
        audience.clone(),
    ));
    let (tokens, writer) = reflector::store();
    watches.spawn(feed::<StoredToken>(
        means.client.clone(),
        writer,
        audience.clone(),
    ));
    let (quotas, writer) = reflector::store();
    watches.spawn(feed::<TokenQuota>(means.client.clone(), writer, audience));
    // A token is not told that its user is missing before all users are known, and the vault is
    // not told that a quota is gone before all quotas are. The writers live as long as the
    // watches, so this cannot fail.
    let _ = tokio::join!(
        namespaces.wait_until_ready(),
        users.wait_until_ready(),
        tokens.wait_until_ready(),
        quotas.wait_until_ready()
    );
    means.readiness.ready(Part::Caches);

    let backoff = || {
        let timing = means.timing;
        Backoff::new(
            timing.first_retry,
            timing.longest_retry,
            Arc::clone(&means.random),
        )
    };
    let context = Context {
        client: means.client.clone(),
        vault: means.vault.controllers(term),
        clock: Arc::clone(&means.clock),
        lists: Lists {
            namespaces,
            users,
            tokens,
            quotas,
        },
        directory,
        onboarding,
        events: Events::new(means.client.clone()),
        metrics: Arc::clone(&means.metrics),
        users_backoff: backoff(),
        tokens_backoff: backoff(),
        quotas_backoff: backoff(),
        timing: means.timing,
        superseded: Stop::new(),
    };
    (Arc::new(context), woken)
}

async fn take_term(vault: &Vault) -> Term {
    loop {
        match vault.take_term().await {
            Ok(term) => return term,
            Err(error) => tracing::warn!(%error, "the controllers wait"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Keeps the list of namespaces. Objects may be heard of before their namespace is, and a
/// recreated namespace is another tenant: both wake what is in it.
async fn watch_namespaces(
    client: Client,
    mut writer: Writer<NamespaceMeta>,
    directory: Arc<Directory>,
) {
    let namespaces = Api::<NamespaceMeta>::all(client);
    let mut events = watcher(namespaces, watcher::Config::default())
        .default_backoff()
        .modify(|namespace| {
            namespace.managed_fields_mut().clear();
            namespace.annotations_mut().clear();
        })
        .boxed();
    let mut uids = HashMap::new();
    let mut changed = Vec::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "cannot watch namespaces");
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        if let Event::Apply(namespace) | Event::InitApply(namespace) = &event {
            let (name, uid) = (namespace.name_any(), namespace.uid());
            if uids.insert(name.clone(), uid.clone()) != Some(uid) {
                changed.push(name);
            }
        }
        // What is being listed cannot be looked up before the list is complete.
        if matches!(event, Event::Apply(_) | Event::InitDone) {
            for name in changed.drain(..) {
                directory.namespace_changed(&name);
            }
        }
    }
}

/// What failed while the database was away need not wait for its next attempt.
async fn wake_after_recovery(recovered: Arc<Notify>, context: Arc<Context>) {
    loop {
        recovered.notified().await;
        wake_failing::<TokenUser>(&context);
        wake_failing::<StoredToken>(&context);
        wake_failing::<TokenQuota>(&context);
    }
}

/// Drops what is behind the audit's retention. What fails is tried again at the next look: until
/// then more is kept than need be.
async fn drop_expired_records(context: Arc<Context>) {
    loop {
        if let Err(error) = context.vault.drop_expired_records().await {
            context.metrics.failed_retention();
            tracing::warn!(%error, "records behind the retention are still there");
        }
        tokio::time::sleep(context.timing.retention_check).await;
    }
}

fn wake_failing<K: Reconciled + Listed>(context: &Context) {
    for place in K::backoff(context).failing() {
        K::wake(&context.directory, &place);
    }
}
