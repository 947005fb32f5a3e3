//! Watches all objects of a kind, and tells the directory of every change.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};

use crate::directory::{Asked, Directory, Listed, Place, Seen};
use crate::kind::{Guarded, has_finalizer, place};
use crate::readiness::{Part, Readiness};
use crate::secrets::Onboarding;

/// Who hears of the objects.
#[derive(Clone)]
pub(crate) struct Audience {
    pub(crate) directory: Arc<Directory>,
    pub(crate) onboarding: Arc<Onboarding>,
    pub(crate) readiness: Arc<Readiness>,
}

/// Watches for as long as it is polled, and keeps the objects in `writer`'s store.
pub(crate) async fn feed<K: Listed>(
    client: Client,
    mut writer: Writer<Guarded<K>>,
    audience: Audience,
) {
    let objects = Api::<Guarded<K>>::all(client);
    let mut events = watcher(objects, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut listed = HashMap::new();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event.modify(strip),
            Err(error) => {
                let kind = K::kind(&());
                let why = format!("cannot watch {kind}s: {error}");
                if audience.readiness.is_ready(Part::Caches) {
                    tracing::warn!("{why}");
                } else {
                    audience.readiness.not_ready(Part::Caches, why);
                }
                continue;
            }
        };
        // First the store, so that whoever is woken finds the object there.
        writer.apply_watcher_event(&event);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(place(&object), seen(&object));
            }
            Event::InitDone => audience.listed::<K>(std::mem::take(&mut listed)),
            Event::Apply(object) => audience.applied::<K>(&place(&object), seen(&object)),
            Event::Delete(object) => audience.removed::<K>(&place(&object)),
        }
    }
}

impl Audience {
    fn listed<K: Listed>(&self, listed: HashMap<Place, Seen<K::Link>>) {
        let known = K::places(&self.directory);
        for gone in known.iter().filter(|place| !listed.contains_key(*place)) {
            self.removed::<K>(gone);
        }
        for (place, seen) in listed {
            self.applied::<K>(&place, seen);
        }
    }

    fn applied<K: Listed>(&self, place: &Place, seen: Seen<K::Link>) {
        // In this order: who asks for the Secrets in between is woken when they are known.
        K::applied(&self.directory, place, seen);
        self.onboarding.appeared(&place.0);
    }

    fn removed<K: Listed>(&self, place: &Place) {
        K::removed(&self.directory, place);
        if !self.directory.has_objects(&place.0) {
            self.onboarding.emptied(&place.0);
            // Another kind's feed may have put one in meanwhile.
            if self.directory.has_objects(&place.0) {
                self.onboarding.appeared(&place.0);
            }
        }
    }
}

/// Half of an object in memory is what nobody here reads.
fn strip<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().clear();
}

fn seen<K: Listed>(object: &Guarded<K>) -> Seen<K::Link> {
    let DeserializeGuard(readable) = object;
    let readable = readable.as_ref().ok();
    let conditions = readable.map_or(&[][..], K::conditions);
    Seen {
        asked: Asked {
            uid: object.uid(),
            generation: object.meta().generation,
            finalizer: has_finalizer(object),
        },
        said: conditions
            .iter()
            .map(|condition| {
                let (type_, reason) = (&condition.type_, &condition.reason);
                // The generation, because a change of a user's workloads leaves the reasons as they
                // are, and matters to the user's tokens once it is in force.
                let of = condition.observed_generation.unwrap_or_default();
                format!("{type_}={reason}@{of} ")
            })
            .collect(),
        links: readable.map(K::links).unwrap_or_default(),
    }
}
