//! Places for connections that have not attached, in all and of one address.
//!
//! Anybody in the cluster may connect. Without the second bound a single pod that
//! holds every place keeps all brokers from attaching.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

/// Who has connected and not attached, by address.
#[derive(Clone)]
pub(crate) struct Places {
    /// Not one: behind a translated address there may be many pods, and all of
    /// them attach at once when a replica has started.
    of_source: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of one connection; it is free again when this is dropped.
pub(crate) struct StrangersPlace {
    _permit: OwnedSemaphorePermit,
    source: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    pub(crate) fn new(of_source: usize) -> Self {
        Self {
            of_source,
            taken: Arc::default(),
        }
    }

    /// Takes a place for a connection from `source`; `None` when it has as many
    /// as it may have.
    pub(crate) fn take(
        &self,
        source: IpAddr,
        permit: OwnedSemaphorePermit,
    ) -> Option<StrangersPlace> {
        // An IPv4 address in IPv6 clothes is the same one.
        let source = source.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = taken.entry(source).or_default();
        if *of_source >= self.of_source {
            return None;
        }
        *of_source += 1;
        Some(StrangersPlace {
            _permit: permit,
            source,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for StrangersPlace {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_source) = taken.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.remove(&self.source);
            }
        }
    }
}
