//! Ids of refusals, by which a person finds in the log, and in the vault, what a
//! program was told.

use std::cell::Cell;
use std::time::Duration;

use bursar_seal::Random;
use bursar_wire::DENIALS_AN_HOUR;

use super::code::Code;
use crate::clock::BootTime;

/// Refusals an hour of callers whose JWT was not found good: half of all, so that
/// whoever sends rubbish cannot hide what others are refused.
const UNVERIFIED_AN_HOUR: u16 = DENIALS_AN_HOUR / 2;
/// A minute longer than the vault's hour, which begins when it hears of the first.
const HOUR: Duration = Duration::from_secs(3_660);

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

/// Puts refusals on the log, with their id and code and nothing of the request; so
/// many an hour for people to find, the rest only at level debug, so that a flood of
/// them does not fill the node's disk.
#[derive(Default)]
pub(crate) struct DecisionLog {
    hour: Cell<Option<BootTime>>,
    told: Cell<u16>,
    unverified: Cell<u16>,
}

impl DecisionLog {
    /// Logs one refusal of a caller whose JWT was `verified`, or not. True when it is
    /// one of those that are told one by one; the rest are only counted.
    pub(crate) fn note(&self, id: &DecisionId, code: Code, verified: bool, now: BootTime) -> bool {
        let (decision_id, code) = (id.as_str(), code.name());
        let has_room = self.has_room(verified, now);
        if has_room {
            tracing::info!(decision_id, code, "refused");
        } else {
            tracing::debug!(decision_id, code, "refused");
        }
        has_room
    }

    fn has_room(&self, verified: bool, now: BootTime) -> bool {
        if self.hour.get().is_none_or(|hour| now.since(hour) >= HOUR) {
            self.hour.set(Some(now));
            self.told.set(0);
            self.unverified.set(0);
        }
        let (told, unverified) = (self.told.get(), self.unverified.get());
        if told >= DENIALS_AN_HOUR || (!verified && unverified >= UNVERIFIED_AN_HOUR) {
            return false;
        }
        self.told.set(told + 1);
        self.unverified.set(unverified + u16::from(!verified));
        true
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
    fn a_flood_of_refusals_is_told_up_to_a_bound_each_hour() {
        let log = DecisionLog::default();
        let start = BootTime::after_boot(Duration::from_secs(1));
        let told = |verified, now| (0..1_000).filter(|_| log.has_room(verified, now)).count();
        assert_eq!(told(true, start), 256);
        assert_eq!(told(true, start.plus(HOUR - Duration::from_secs(1))), 0);
        assert_eq!(told(true, start.plus(HOUR)), 256);
    }

    #[test]
    fn a_flood_of_strangers_leaves_half_the_room_to_callers_that_were_verified() {
        let log = DecisionLog::default();
        let now = BootTime::after_boot(Duration::from_secs(1));
        let told = |verified| (0..1_000).filter(|_| log.has_room(verified, now)).count();
        assert_eq!(told(false), 128);
        assert_eq!(told(true), 128);
        assert_eq!((told(false), told(true)), (0, 0));
    }
}
