//! Denials, and remembering them for a moment, so that a workload that keeps
//! asking for what it cannot have does not reach the vault each time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bursar_wire::v1alpha1::Denied;
use bursar_wire::v1alpha1::denied::Code;

use super::key::EntryKey;
use crate::clock::BootTime;

/// How long a denial is remembered.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How many are.
const MOST: usize = 1024;

/// Why the vault granted nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Denial {
    /// Absent, not the caller's, or suspended: nobody is told which.
    Forbidden,
    /// The user has no such token.
    TokenNotFound,
    /// No token was named and the user has these.
    TokenAmbiguous(Vec<String>),
    /// No value was stored yet.
    TokenHasNoValue,
    /// Every version is dead.
    TokenRevoked,
    /// The token's expirationTime has passed.
    TokenExpired,
    /// A quota is used up.
    QuotaExhausted {
        /// Seconds until it begins anew; `None` when it does not.
        retry_after: Option<u64>,
        /// The TokenQuotas that are.
        quotas: Vec<String>,
    },
    /// The vault's answer cannot be used: it is malformed, or the value does
    /// not open.
    Unusable,
    /// The vault has failed to answer.
    Unavailable,
}

impl From<Denied> for Denial {
    fn from(denied: Denied) -> Self {
        match denied.code() {
            // A code this build does not know must not say more than the least.
            Code::Unspecified
            | Code::Forbidden
            // Not about tokens.
            | Code::CounterNotFound
            | Code::IdempotencyKeyReused => Self::Forbidden,
            Code::TokenNotFound => Self::TokenNotFound,
            Code::TokenAmbiguous => Self::TokenAmbiguous(denied.tokens),
            Code::NoVersion => Self::TokenHasNoValue,
            Code::Revoked => Self::TokenRevoked,
            Code::Expired => Self::TokenExpired,
            Code::QuotaExhausted => Self::QuotaExhausted {
                retry_after: denied.retry_after_ms.map(whole_seconds),
                quotas: denied.quotas,
            },
        }
    }
}

/// Milliseconds as `Retry-After` has them: rounded up, so that who comes back then is
/// not too early.
pub(crate) fn whole_seconds(milliseconds: u64) -> u64 {
    milliseconds.div_ceil(1000).max(1)
}

/// The denials of the last second.
#[derive(Default)]
pub(crate) struct Denials {
    by_key: HashMap<EntryKey, (Denial, BootTime)>,
    /// The same keys, the oldest first.
    order: VecDeque<EntryKey>,
    generation: Generation,
}

/// Counts how often everything was forgotten.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Generation(u64);

impl Denials {
    /// The denial of `key`, if it is fresh.
    pub(crate) fn get(&self, key: &EntryKey, now: BootTime) -> Option<&Denial> {
        let (denial, until) = self.by_key.get(key)?;
        (now < *until).then_some(denial)
    }

    /// To be taken when the vault is asked, and handed in with its answer.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Remembers a denial, unless entitlements changed since it was asked for.
    pub(crate) fn remember(
        &mut self,
        key: EntryKey,
        denial: Denial,
        asked: Generation,
        now: BootTime,
    ) {
        if asked != self.generation {
            return;
        }
        let entry = (denial, now.plus(REMEMBERED));
        if self.by_key.insert(key.clone(), entry).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
    }

    /// Entitlements have changed: every remembered denial may be wrong now.
    pub(crate) fn forget_all(&mut self) {
        self.by_key.clear();
        self.order.clear();
        self.generation.0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: BootTime = BootTime::after_boot(Duration::from_secs(5));

    fn remember(denials: &mut Denials, token: &str) {
        let generation = denials.generation();
        let key = EntryKey::new("ana", Some(token));
        denials.remember(key, Denial::Forbidden, generation, NOW);
    }

    #[test]
    fn a_denial_is_remembered_for_a_second() {
        let mut denials = Denials::default();
        remember(&mut denials, "github");
        let key = EntryKey::new("ana", Some("github"));
        let just_before = NOW.plus(REMEMBERED - Duration::from_millis(1));
        assert_eq!(denials.get(&key, just_before), Some(&Denial::Forbidden));
        assert_eq!(denials.get(&key, NOW.plus(REMEMBERED)), None);
        assert_eq!(denials.get(&EntryKey::new("ana", None), NOW), None);
    }

    #[test]
    fn a_flood_of_denials_is_bounded_and_the_newest_are_kept() {
        let mut denials = Denials::default();
        for n in 0..10 * MOST {
            remember(&mut denials, &n.to_string());
            remember(&mut denials, &n.to_string());
        }
        assert_eq!((denials.by_key.len(), denials.order.len()), (MOST, MOST));
        let newest = EntryKey::new("ana", Some(&(10 * MOST - 1).to_string()));
        assert!(denials.get(&newest, NOW).is_some());
        assert!(denials.get(&EntryKey::new("ana", Some("0")), NOW).is_none());
    }

    #[test]
    fn a_denial_older_than_a_change_of_entitlement_is_not_remembered() {
        let mut denials = Denials::default();
        let asked = denials.generation();
        denials.forget_all();
        let key = EntryKey::new("ana", None);
        denials.remember(key.clone(), Denial::Forbidden, asked, NOW);
        assert_eq!(denials.get(&key, NOW), None);
    }

    #[test]
    fn an_unknown_code_is_forbidden() {
        for code in [0, 1, 8, 9, 99] {
            let denied = Denied {
                code,
                tokens: vec!["github".into()],
                retry_after_ms: Some(1),
                ..Denied::default()
            };
            assert_eq!(Denial::from(denied), Denial::Forbidden);
        }
    }
}
