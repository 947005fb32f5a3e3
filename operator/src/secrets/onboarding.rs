//! Onboarded namespaces, each with one watch on its labelled Secrets.
//!
//! A namespace is onboarded while the API server lets this process list and watch Secrets in it.
//! That is asked when an object of ours appears there, again every 30 seconds, since a watch that
//! is open outlives the right to it, and at once when anything there is forbidden. Losing the
//! right is no empty list: the namespace is not onboarded any more, and what is stored goes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_crds::names::{SOURCE_LABEL, SOURCE_LABEL_VALUE};
use bursar_crds::reasons::ReadyReason;
use bursar_vault::Clock;
use futures::StreamExt;
use kube::core::Status;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::rights::may_watch_secrets;
use super::source_secret::SourceSecret;
use crate::config::Timing;
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::object::{Said, not_onboarded};
use crate::refused;
use crate::tls::Bundle;

/// Before another question to an API server that did not answer.
const RETRY: Duration = Duration::from_secs(2);

/// What is known of a namespace's Secrets.
#[derive(Clone)]
pub(crate) enum Secrets {
    /// Nothing yet. Whoever asked is woken when that changes.
    Unknown,
    /// They may not be read.
    NotOnboarded,
    /// The labelled ones.
    Readable(Store<SourceSecret>),
}

/// What watching needs.
pub(crate) struct OnboardingMeans {
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) bundle: Bundle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) timing: Timing,
}

/// The namespaces with objects of ours.
pub(crate) struct Onboarding {
    means: Arc<OnboardingMeans>,
    namespaces: Mutex<HashMap<String, Watched>>,
}

struct Watched {
    secrets: Arc<Mutex<Secrets>>,
    forbidden: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Onboarding {
    /// No namespace yet.
    pub(crate) fn new(means: OnboardingMeans) -> Self {
        Self {
            means: Arc::new(means),
            namespaces: Mutex::default(),
        }
    }

    /// The namespace has objects of ours.
    pub(crate) fn appeared(&self, namespace: &str) {
        if let Entry::Vacant(place) = lock(&self.namespaces).entry(namespace.to_owned()) {
            let secrets = Arc::new(Mutex::new(Secrets::Unknown));
            let forbidden = Arc::new(Notify::new());
            let watch = Watch {
                means: Arc::clone(&self.means),
                namespace: namespace.to_owned(),
                secrets: Arc::clone(&secrets),
                forbidden: Arc::clone(&forbidden),
            };
            let task = tokio::spawn(watch.run()).abort_handle();
            place.insert(Watched {
                secrets,
                forbidden,
                task,
            });
        }
    }

    /// The namespace has none any more.
    pub(crate) fn emptied(&self, namespace: &str) {
        lock(&self.namespaces).remove(namespace);
    }

    /// Something was forbidden in the namespace: whether it is still onboarded is asked at once.
    pub(crate) fn forbidden(&self, namespace: &str) {
        if let Some(watched) = lock(&self.namespaces).get(namespace) {
            watched.forbidden.notify_one();
        }
    }

    /// Why nothing is stored in a namespace that is not onboarded, and what would change that.
    pub(crate) fn missing(&self, namespace: &str) -> Said<ReadyReason> {
        not_onboarded(namespace, self.means.timing.onboarding_check)
    }

    /// What is known of the namespace's Secrets.
    pub(crate) fn secrets(&self, namespace: &str) -> Secrets {
        match lock(&self.namespaces).get(namespace) {
            Some(watched) => lock(&watched.secrets).clone(),
            None => Secrets::Unknown,
        }
    }
}

/// The task of one namespace.
struct Watch {
    means: Arc<OnboardingMeans>,
    namespace: String,
    secrets: Arc<Mutex<Secrets>>,
    /// Told when something was forbidden in the namespace.
    forbidden: Arc<Notify>,
}

impl Watch {
    async fn run(self) {
        let namespace = self.namespace.as_str();
        loop {
            let mut pause = self.means.timing.onboarding_check;
            match may_watch_secrets(&self.means.client, namespace).await {
                Ok(true) => {
                    tokio::select! {
                        () = self.watch_secrets() => {}
                        () = self.means.bundle.keep(namespace, &self.forbidden) => {}
                        () = self.until_right_is_lost() => {}
                    }
                    self.not_onboarded();
                }
                Ok(false) => self.not_onboarded(),
                // What was known goes on. Soon again: who asked first waits for the answer.
                Err(error) => {
                    cannot_ask(namespace, &error);
                    pause = pause.min(RETRY);
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks for the right again and again; returns when it is lost.
    async fn until_right_is_lost(&self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.means.timing.onboarding_check) => {}
                () = self.forbidden.notified() => {}
            }
            match may_watch_secrets(&self.means.client, &self.namespace).await {
                Ok(true) => {}
                Ok(false) => return,
                // What was known goes on.
                Err(error) => cannot_ask(&self.namespace, &error),
            }
        }
    }

    /// Keeps the list of labelled Secrets; returns when it may not be read any more.
    async fn watch_secrets(&self) {
        let (store, mut writer) = reflector::store();
        let secrets = Api::<SourceSecret>::namespaced(self.means.client.clone(), &self.namespace);
        let config =
            watcher::Config::default().labels(&format!("{SOURCE_LABEL}={SOURCE_LABEL_VALUE}"));
        let mut events = watcher(secrets, config).default_backoff().boxed();
        let mut counted = Counted::default();
        while let Some(event) = events.next().await {
            let mut event = match event {
                Ok(event) => event,
                Err(error) if refused::of_watch(&error).is_some_and(Status::is_forbidden) => return,
                Err(error) => {
                    // Not its text: an error about a body may quote the body.
                    let error = error_class(&error);
                    tracing::warn!(namespace = self.namespace, error, "cannot watch Secrets");
                    continue;
                }
            };
            if let Event::Apply(secret) = &mut event {
                secret.heard = Some(self.means.clock.now());
            }
            writer.apply_watcher_event(&event);
            match event {
                Event::Apply(secret) | Event::Delete(secret) => {
                    self.means
                        .directory
                        .secret_changed(&self.namespace, &secret.name_any());
                }
                Event::InitDone => {
                    counted.count(&self.means.metrics);
                    *lock(&self.secrets) = Secrets::Readable(store.clone());
                    tracing::info!(namespace = self.namespace, "onboarded");
                    self.means.directory.namespace_changed(&self.namespace);
                }
                Event::Init | Event::InitApply(_) => {}
            }
        }
    }

    fn not_onboarded(&self) {
        let before = std::mem::replace(&mut *lock(&self.secrets), Secrets::NotOnboarded);
        if !matches!(before, Secrets::NotOnboarded) {
            tracing::info!(namespace = self.namespace, "not onboarded");
            self.means.directory.namespace_changed(&self.namespace);
        }
    }
}

/// Counts a namespace as onboarded, until dropped: with the watch, or with its task.
#[derive(Default)]
struct Counted(Option<Arc<Metrics>>);

impl Counted {
    fn count(&mut self, metrics: &Arc<Metrics>) {
        if self.0.is_none() {
            metrics.onboarded(true);
            self.0 = Some(Arc::clone(metrics));
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(metrics) = &self.0 {
            metrics.onboarded(false);
        }
    }
}

fn cannot_ask(namespace: &str, error: &kube::Error) {
    tracing::warn!(namespace, %error, "cannot ask for our own rights");
}

fn error_class(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(_) => "the list failed",
        watcher::Error::WatchStartFailed(_) => "the watch could not start",
        watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_) => "the watch broke",
        watcher::Error::NoResourceVersion => "the list has no resourceVersion",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held, and no value is half written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
