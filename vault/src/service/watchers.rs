//! The brokers that watch for changes through this replica.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bursar_seal::TenantId;
use bursar_wire::v1alpha1::Event;
use futures::Stream;
use tokio::sync::mpsc;
use tonic::Status;
use uuid::Uuid;

use super::error::CallError;
use super::metrics::Metrics;

/// Events a broker may be behind before it is disconnected.
const LONGEST_BACKLOG: usize = 64;

/// Who watches: one run of one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WatcherId {
    pub(crate) tenant: TenantId,
    pub(crate) incarnation: Uuid,
}

/// All watchers of this replica.
#[derive(Clone)]
pub(crate) struct Watchers {
    state: Arc<Mutex<State>>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    watchers: HashMap<WatcherId, Watcher>,
    next_serial: u64,
    closed: bool,
}

struct Watcher {
    /// Tells a stream from one that replaced it.
    serial: u64,
    events: mpsc::Sender<Result<Event, Status>>,
}

impl Watchers {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            state: Arc::default(),
            metrics,
        }
    }

    /// Begins to collect events for this broker; an older stream of it ends.
    /// `None` when this replica is shutting down.
    pub(crate) fn register(&self, id: WatcherId) -> Option<Registration> {
        let (sender, events) = mpsc::channel(LONGEST_BACKLOG);
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let serial = state.next_serial;
        state.next_serial += 1;
        let watcher = Watcher {
            serial,
            events: sender,
        };
        state.watchers.insert(id, watcher);
        self.count(&state);
        Some(Registration {
            watchers: self.clone(),
            id,
            serial,
            events,
        })
    }

    /// Tells one broker, if it watches here.
    pub(crate) fn tell(&self, id: WatcherId, event: Event) {
        self.tell_each([id], &event);
    }

    /// Tells all brokers of a tenant.
    pub(crate) fn tell_tenant(&self, tenant: TenantId, event: &Event) {
        let ids = self.ids();
        self.tell_each(ids.into_iter().filter(|id| id.tenant == tenant), event);
    }

    /// Tells every broker.
    pub(crate) fn tell_all(&self, event: &Event) {
        self.tell_each(self.ids(), event);
    }

    /// Ends all streams; the brokers watch again and are brought up to date.
    pub(crate) fn disconnect_all(&self) {
        let mut state = self.state();
        state.watchers.clear();
        self.count(&state);
    }

    /// The same for one tenant.
    pub(crate) fn disconnect_tenant(&self, tenant: TenantId) {
        let mut state = self.state();
        state.watchers.retain(|id, _| id.tenant != tenant);
        self.count(&state);
    }

    /// Ends the streams of incarnations that are over; they must attach anew.
    pub(crate) fn end(&self, ids: impl IntoIterator<Item = WatcherId>) {
        let mut state = self.state();
        for id in ids {
            if let Some(watcher) = state.watchers.remove(&id) {
                // With a full backlog the stream just ends: the next call says why.
                let _ = watcher
                    .events
                    .try_send(Err(CallError::Unauthenticated.into()));
            }
        }
        self.count(&state);
    }

    /// Ends all streams, and lets none begin: this replica is shutting down.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.watchers.clear();
        self.count(&state);
    }

    pub(crate) fn ids(&self) -> Vec<WatcherId> {
        self.state().watchers.keys().copied().collect()
    }

    pub(crate) fn tenants(&self) -> HashSet<TenantId> {
        self.state().watchers.keys().map(|id| id.tenant).collect()
    }

    fn tell_each(&self, ids: impl IntoIterator<Item = WatcherId>, event: &Event) {
        let mut state = self.state();
        for id in ids {
            let Some(watcher) = state.watchers.get(&id) else {
                continue;
            };
            // Never skipped: who cannot take an event starts anew instead.
            if watcher.events.try_send(Ok(event.clone())).is_err() {
                state.watchers.remove(&id);
                self.metrics.slow_watchers.inc();
            }
        }
        self.count(&state);
    }

    fn unregister(&self, id: WatcherId, serial: u64) {
        let mut state = self.state();
        let current = state.watchers.get(&id);
        if current.is_some_and(|watcher| watcher.serial == serial) {
            state.watchers.remove(&id);
            self.count(&state);
        }
    }

    fn count(&self, state: &State) {
        let count = i64::try_from(state.watchers.len()).unwrap_or(i64::MAX);
        self.metrics.watchers.set(count);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the watchers, left when dropped.
pub(crate) struct Registration {
    watchers: Watchers,
    id: WatcherId,
    serial: u64,
    events: mpsc::Receiver<Result<Event, Status>>,
}

impl Registration {
    /// What the broker reads: `first`, then everything since the registration.
    pub(crate) fn stream(self, first: Vec<Event>) -> EventStream {
        EventStream {
            first: first.into(),
            registration: self,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.watchers.unregister(self.id, self.serial);
    }
}

/// The events of one broker. It ends when the broker should start anew.
pub struct EventStream {
    first: VecDeque<Event>,
    registration: Registration,
}

impl Stream for EventStream {
    type Item = Result<Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(event) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(event)));
        }
        self.registration.events.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use bursar_seal::TenantId;
    use bursar_wire::v1alpha1::{Event, ForgetDenials, Synced, event};
    use futures::StreamExt;
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    use super::{LONGEST_BACKLOG, WatcherId, Watchers};
    use crate::service::metrics::Metrics;

    fn watchers() -> Watchers {
        Watchers::new(Metrics::new(&mut Registry::default()))
    }

    fn id(number: u128) -> WatcherId {
        WatcherId {
            tenant: TenantId::from(Uuid::from_u128(number)),
            incarnation: Uuid::from_u128(number),
        }
    }

    fn forget() -> Event {
        Event {
            event: Some(event::Event::ForgetDenials(ForgetDenials {})),
        }
    }

    fn synced() -> Event {
        Event {
            event: Some(event::Event::Synced(Synced {})),
        }
    }

    #[tokio::test]
    async fn first_comes_what_was_missed_then_what_happened_since() {
        let watchers = watchers();
        let registration = watchers.register(id(1)).unwrap();
        watchers.tell(id(1), forget());
        let stream = registration.stream(vec![synced()]);
        watchers.close();
        let events: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(events, [synced(), forget()]);
    }

    #[tokio::test]
    async fn a_broker_that_reads_too_slowly_is_disconnected_and_others_are_not() {
        let watchers = watchers();
        let slow = watchers.register(id(1)).unwrap().stream(vec![]);
        let quick = watchers.register(id(2)).unwrap();
        for _ in 0..=LONGEST_BACKLOG {
            watchers.tell(id(1), forget());
        }
        assert_eq!(watchers.ids(), [id(2)]);
        // It still gets what it could take, then sees that its stream ended.
        assert_eq!(slow.count().await, LONGEST_BACKLOG);
        drop(quick);
        assert!(watchers.ids().is_empty());
    }

    #[tokio::test]
    async fn a_new_stream_of_a_broker_replaces_its_old_one() {
        let watchers = watchers();
        let old = watchers.register(id(1)).unwrap().stream(vec![]);
        let new = watchers.register(id(1)).unwrap();
        assert_eq!(old.count().await, 0);
        assert_eq!(watchers.ids(), [id(1)]);
        drop(new);
        assert!(watchers.ids().is_empty());
    }

    #[tokio::test]
    async fn a_tenant_hears_only_of_itself() {
        let watchers = watchers();
        let one = watchers.register(id(1)).unwrap().stream(vec![]);
        let two = watchers.register(id(2)).unwrap().stream(vec![]);
        watchers.tell_tenant(id(1).tenant, &forget());
        watchers.close();
        assert_eq!((one.count().await, two.count().await), (1, 0));
        assert!(watchers.register(id(1)).is_none());
    }
}
