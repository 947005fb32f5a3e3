//! Ids of refusals, by which a person finds in the log what a program was told.

use std::cell::Cell;
use std::time::Duration;

use bursar_seal::Random;

use super::problem::Code;
use crate::clock::BootTime;

/// Refusals an hour that are logged for people to find; the rest only at level
/// debug, so that a flood of them does not fill the node's disk.
const MOST_AN_HOUR: u32 = 256;
const HOUR: Duration = Duration::from_secs(3_600);

/// The id of one refusal: 32 characters, always.
pub(crate) struct DecisionId(String);

impl DecisionId {
    /// A random id.
    pub(crate) fn new(random: &dyn Random) -> Self {
        let mut id = [0; 16];
        if random.fill(&mut id).is_err() {
            // An id that repeats is of less use, and does no harm.
            id = [0; 16];
        }
        Self(hex::encode(id))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Puts refusals on the log: their id and code, and nothing of the request.
#[derive(Default)]
pub(crate) struct DecisionLog {
    hour: Cell<Option<BootTime>>,
    written: Cell<u32>,
}

impl DecisionLog {
    /// Logs one refusal.
    pub(crate) fn note(&self, id: &DecisionId, code: Code, now: BootTime) {
        let (decision_id, code) = (id.as_str(), code.name());
        if self.has_room(now) {
            tracing::info!(decision_id, code, "refused");
        } else {
            tracing::debug!(decision_id, code, "refused");
        }
    }

    fn has_room(&self, now: BootTime) -> bool {
        if self.hour.get().is_none_or(|hour| now.since(hour) >= HOUR) {
            self.hour.set(Some(now));
            self.written.set(0);
        }
        self.written.set(self.written.get().saturating_add(1));
        self.written.get() <= MOST_AN_HOUR
    }
}

#[cfg(test)]
mod tests {
    use bursar_seal::{RandomError, SystemRandom};

    use super::*;

    #[test]
    fn ids_differ_and_have_one_length_even_without_randomness() {
        struct Broken;
        impl Random for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                Err(RandomError)
            }
        }
        let (first, second) = (
            DecisionId::new(&SystemRandom),
            DecisionId::new(&SystemRandom),
        );
        assert_ne!(first.as_str(), second.as_str());
        assert_eq!(
            (
                first.as_str().len(),
                DecisionId::new(&Broken).as_str().len()
            ),
            (32, 32)
        );
    }

    #[test]
    fn a_flood_of_refusals_is_logged_up_to_a_bound_each_hour() {
        let log = DecisionLog::default();
        let start = BootTime::after_boot(Duration::from_secs(1));
        let logged = |now| (0..1_000).filter(|_| log.has_room(now)).count();
        assert_eq!(logged(start), 256);
        assert_eq!(logged(start.plus(HOUR - Duration::from_secs(1))), 0);
        assert_eq!(logged(start.plus(HOUR)), 256);
    }
}
