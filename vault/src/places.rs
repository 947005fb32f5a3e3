//! How many may do something at once, by who they are: so that nobody alone can keep all others
//! from it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Places by who has them.
pub struct Places<K> {
    of_one: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A place; it is free again when this is dropped.
pub struct Place<K: Clone + Eq + Hash> {
    key: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// So many for each.
    #[must_use]
    pub fn new(of_one: usize) -> Self {
        Self {
            of_one,
            taken: Arc::default(),
        }
    }

    /// One more for `key`; `None` when it has as many as it may have.
    pub fn take(&self, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.entry(key.clone()).or_default();
        if *of_one >= self.of_one {
            return None;
        }
        *of_one += 1;
        Some(Place {
            key,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_one) = taken.get_mut(&self.key) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn each_has_its_own_places_until_it_gives_them_back() {
        let places = Places::new(2);
        let first = places.take("a");
        let second = places.take("a");
        assert!(first.is_some() && second.is_some());
        assert!(places.take("a").is_none());
        assert!(places.take("b").is_some());
        drop(first);
        assert!(places.take("a").is_some());
        drop(second);
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
