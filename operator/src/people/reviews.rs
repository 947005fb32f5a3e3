//! Whose tokens may wait for the API server to review them. Brokers wait in the same queue, of a
//! hundred places (20 reviews a second, for 5 seconds), and are not to be kept from it by people.

use bursar_vault::{Place, Places};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Tokens of all people that may wait at once: a fifth of the queue.
const OF_ALL: usize = 20;
/// Those of service accounts of one namespace. Not of one account: who may make one there may make
/// a hundred.
const OF_NAMESPACE: usize = 10;

/// Places in the queue.
pub(super) struct Reviews {
    all: Semaphore,
    by_namespace: Places<String>,
}

/// A place; it is free again when this is dropped.
pub(super) struct Waiting<'a> {
    _place: Place<String>,
    _permit: SemaphorePermit<'a>,
}

impl Reviews {
    pub(super) fn new() -> Self {
        Self {
            all: Semaphore::new(OF_ALL),
            by_namespace: Places::new(OF_NAMESPACE),
        }
    }

    /// A place for one more token from a namespace; `None`, at once, when too many wait.
    pub(super) fn take(&self, namespace: &str) -> Option<Waiting<'_>> {
        Some(Waiting {
            _place: self.by_namespace.take(namespace.to_owned())?,
            _permit: self.all.try_acquire().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Reviews;

    #[test]
    fn people_take_a_fifth_of_the_queue_and_those_of_one_namespace_a_tenth() {
        let reviews = Reviews::new();
        let mut waiting = Vec::new();
        for namespace in ["one", "two"] {
            while let Some(place) = reviews.take(namespace) {
                waiting.push(place);
                assert!(waiting.len() <= 20, "nothing bounds {namespace}");
            }
            let expected = if namespace == "one" { 10 } else { 20 };
            assert_eq!(waiting.len(), expected);
        }
        assert!(reviews.take("three").is_none());
        waiting.remove(0);
        // Those of the second have as many as they may.
        assert!(reviews.take("two").is_none());
        let third = reviews.take("three");
        assert!(third.is_some());
        assert!(reviews.take("one").is_none());
        drop(third);
        assert!(reviews.take("one").is_some());
    }
}
