//! The connections of each pod.
//!
//! A broker needs one. A pod gets a few: those that broke off stay until that is
//! noticed, and must not keep its broker out; and a broker that was taken over
//! must not fill the replica. All of them are its newest run's: when another run
//! of the pod attaches, the connections of the one before are closed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::AbortHandle;

use super::watchers::WatcherId;

/// The most connections of one pod to this replica.
pub(crate) const OF_ONE_POD: usize = 8;

/// The pods that are connected to this replica, by UID.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<Mutex<HashMap<String, Run>>>);

/// The run of a pod's broker that attached last, and its connections by number.
struct Run {
    incarnation: WatcherId,
    connections: HashMap<u64, AbortHandle>,
}

/// One connection among those of its pod, until it is dropped.
pub(crate) struct Seat {
    pods: Pods,
    pod_uid: String,
    incarnation: WatcherId,
    connection: u64,
}

/// The pod has all the connections it may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Pods {
    /// Counts the connection of that number among the pod's, and closes those of
    /// another run. Aborting `close` closes this one.
    ///
    /// # Errors
    /// [`Full`], and nothing has changed.
    pub(crate) fn seat(
        &self,
        pod_uid: &str,
        incarnation: WatcherId,
        connection: u64,
        close: &AbortHandle,
    ) -> Result<Seat, Full> {
        let mut pods = self.pods();
        let run = pods.entry(pod_uid.to_owned()).or_insert(Run {
            incarnation,
            connections: HashMap::new(),
        });
        if run.incarnation != incarnation {
            run.incarnation = incarnation;
            for (number, other) in run.connections.drain() {
                // This one goes on, for the new run.
                if number != connection {
                    other.abort();
                }
            }
        }
        if run.connections.len() >= OF_ONE_POD {
            return Err(Full);
        }
        run.connections.insert(connection, close.clone());
        Ok(Seat {
            pods: self.clone(),
            pod_uid: pod_uid.to_owned(),
            incarnation,
            connection,
        })
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Run>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The run of a broker that the connection speaks for.
    pub(crate) const fn incarnation(&self) -> WatcherId {
        self.incarnation
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut pods = self.pods.pods();
        let Entry::Occupied(mut pod) = pods.entry(std::mem::take(&mut self.pod_uid)) else {
            return;
        };
        let run = pod.get_mut();
        // Another run has these numbers for connections of its own.
        if run.incarnation == self.incarnation {
            run.connections.remove(&self.connection);
        }
        if run.connections.is_empty() {
            pod.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::AbortHandle;
    use uuid::Uuid;

    use super::{Full, OF_ONE_POD, Pods, Seat};
    use crate::service::watchers::WatcherId;

    fn run(number: u128) -> WatcherId {
        WatcherId {
            tenant: Uuid::from_u128(1).into(),
            incarnation: Uuid::from_u128(number),
        }
    }

    fn seat(pods: &Pods, run: WatcherId, connection: u64) -> (Result<Seat, Full>, AbortHandle) {
        let (close, _) = AbortHandle::new_pair();
        (pods.seat("pod", run, connection, &close), close)
    }

    #[test]
    fn a_pod_has_so_many_connections_and_no_more() {
        let pods = Pods::default();
        let mut seats = Vec::new();
        for connection in 0..OF_ONE_POD as u64 {
            seats.push(seat(&pods, run(1), connection).0.unwrap());
        }
        assert_eq!(seat(&pods, run(1), 100).0.err(), Some(Full));
        let (close, _) = AbortHandle::new_pair();
        assert!(pods.seat("other", run(2), 101, &close).is_ok());
        seats.pop();
        assert!(seat(&pods, run(1), 102).0.is_ok());
    }

    #[test]
    fn another_run_closes_the_connections_of_the_one_before_but_its_own() {
        let pods = Pods::default();
        let before: Vec<_> = (0..OF_ONE_POD as u64)
            .map(|connection| seat(&pods, run(1), connection))
            .collect();
        // The first connection attaches as a new run.
        let (next, _) = seat(&pods, run(2), 0);
        assert!(next.is_ok());
        let closed: Vec<bool> = before.iter().map(|(_, close)| close.is_aborted()).collect();
        assert_eq!(closed, [false, true, true, true, true, true, true, true]);
        // Those of the old run that end do not make room among the new one's.
        drop(before);
        let more: Vec<_> = (1..OF_ONE_POD as u64)
            .map(|connection| seat(&pods, run(2), connection).0.unwrap())
            .collect();
        assert_eq!(seat(&pods, run(2), 100).0.err(), Some(Full));
        drop((next, more));
        assert!(pods.pods().is_empty());
    }
}
