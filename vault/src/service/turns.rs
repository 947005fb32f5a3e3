//! How many calls of brokers are worked on at once.
//!
//! Each call takes a database connection for a moment. One broker gets few of
//! them, however many calls it makes, and all brokers together leave some to
//! what must not wait for them: the change feed, the sweep and the controllers.
//! Who has to wait waits in the order of arrival, for as long as its caller does,
//! and not for a connection, where a crowd would be turned away after 5 seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::watchers::WatcherId;

/// Calls of one broker at once. An honest one makes few at a time.
const OF_ONE: usize = 4;
/// Connections that are never used for brokers.
const LEFT_ALONE: u32 = 4;

/// Turns at the database.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Parts>);

struct Parts {
    all: Arc<Semaphore>,
    of_one: Mutex<HashMap<Caller, Arc<Semaphore>>>,
}

/// Whose call it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A pod that attaches, by its UID.
    Pod(String),
    /// A run of a broker that has attached.
    Run(WatcherId),
}

/// A turn among the calls of one broker.
pub(crate) struct OwnTurn {
    turns: Turns,
    caller: Caller,
    permit: Option<OwnedSemaphorePermit>,
}

/// The right to work on one call.
pub(crate) struct Turn {
    shared: Option<OwnedSemaphorePermit>,
    own: OwnTurn,
}

impl Caller {
    pub(crate) fn pod(uid: &str) -> Self {
        Self::Pod(uid.to_owned())
    }
}

impl Turns {
    /// For a pool of so many connections.
    pub(crate) fn new(connections: u32) -> Self {
        let for_brokers = connections.saturating_sub(LEFT_ALONE).max(1);
        Self(Arc::new(Parts {
            all: Arc::new(Semaphore::new(for_brokers as usize)),
            of_one: Mutex::default(),
        }))
    }

    /// Waits for a turn of this broker.
    pub(crate) async fn of(&self, caller: Caller) -> Turn {
        self.own(caller).await.shared().await
    }

    /// Waits for a turn among this broker's own calls.
    pub(crate) async fn own(&self, caller: Caller) -> OwnTurn {
        // Made first, so that who stops waiting is forgotten too.
        let mut turn = OwnTurn {
            turns: self.clone(),
            caller: caller.clone(),
            permit: None,
        };
        let own = self
            .map()
            .entry(caller)
            .or_insert_with(|| Arc::new(Semaphore::new(OF_ONE)))
            .clone();
        // Semaphores are never closed, and first in, first out.
        turn.permit = own.acquire_owned().await.ok();
        turn
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Caller, Arc<Semaphore>>> {
        let of_one = self.0.of_one.lock();
        of_one.unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnTurn {
    /// Waits for a turn among the calls of all brokers.
    pub(crate) async fn shared(self) -> Turn {
        let mut turn = Turn {
            shared: None,
            own: self,
        };
        turn.take_shared().await;
        turn
    }
}

impl Turn {
    /// Does nothing for so long, and lets the calls of others be worked on meanwhile.
    /// It stays one of its broker's own: no more of them rest than there may be.
    pub(crate) async fn rest(&mut self, duration: Duration) {
        self.shared.take();
        tokio::time::sleep(duration).await;
        self.take_shared().await;
    }

    async fn take_shared(&mut self) {
        let all = Arc::clone(&self.own.turns.0.all);
        self.shared = all.acquire_owned().await.ok();
    }
}

impl Drop for OwnTurn {
    fn drop(&mut self) {
        self.permit.take();
        let mut map = self.turns.map();
        let last = map
            .get(&self.caller)
            .is_some_and(|own| Arc::strong_count(own) == 1);
        if last {
            map.remove(&self.caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use uuid::Uuid;

    use super::{Caller, OF_ONE, Turns};
    use crate::service::watchers::WatcherId;

    const SOON: Duration = Duration::from_secs(1);

    fn broker(number: u128) -> Caller {
        Caller::Run(WatcherId {
            tenant: Uuid::from_u128(1).into(),
            incarnation: Uuid::from_u128(number),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_broker_does_not_keep_others_waiting() {
        let turns = Turns::new(24);
        let mut greedy = Vec::new();
        for _ in 0..OF_ONE {
            greedy.push(turns.of(broker(1)).await);
        }
        assert!(timeout(SOON, turns.of(broker(1))).await.is_err());
        assert!(timeout(SOON, turns.of(broker(2))).await.is_ok());
        greedy.pop();
        assert!(timeout(SOON, turns.of(broker(1))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn all_brokers_together_leave_connections_to_others() {
        let turns = Turns::new(10);
        let mut under_way = Vec::new();
        for number in 0..6 {
            under_way.push(turns.of(broker(number)).await);
        }
        assert!(timeout(SOON, turns.of(broker(6))).await.is_err());
        let attaching = turns.of(Caller::pod("pod"));
        assert!(timeout(SOON, attaching).await.is_err());
        under_way.pop();
        assert!(timeout(SOON, turns.of(broker(6))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_keeps_nobody_waiting_but_its_own() {
        let turns = Turns::new(5);
        let mut resting = turns.of(broker(1)).await;
        let rest = resting.rest(3 * SOON);
        let meanwhile = async {
            assert!(timeout(SOON, turns.of(broker(2))).await.is_ok());
            let mut own = Vec::new();
            for _ in 1..OF_ONE {
                own.push(turns.own(broker(1)).await);
            }
            assert!(timeout(SOON, turns.own(broker(1))).await.is_err());
        };
        tokio::join!(rest, meanwhile);
        assert!(timeout(SOON, turns.of(broker(2))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_call_under_way_is_forgotten() {
        let turns = Turns::new(24);
        let mut held = Vec::new();
        for _ in 0..OF_ONE {
            held.push(turns.of(broker(1)).await);
        }
        assert!(timeout(SOON, turns.of(broker(1))).await.is_err());
        drop(held);
        assert!(turns.map().is_empty());
    }
}
