//! One allowance that is held: so many accesses to one token version, until the lease
//! ends.

use std::time::Duration;

use bursar_seal::{Opener, PlainBuffer, TokenId, TokenVersion};
use hyper::body::Bytes;

use super::answer::Answer;
use super::grant::Grant;
use super::lease::Lease;
use super::notes::Notes;
use crate::clock::{BootTime, Clock, UnixMillis};

/// What quotas count and nobody uses for this long is given back.
const IDLE: Duration = Duration::from_secs(2);

/// An allowance that is being served from.
pub(crate) struct Allowance {
    id: String,
    version: (TokenId, TokenVersion),
    lease: Lease,
    /// When its use began.
    began: BootTime,
    granted: u32,
    left: u32,
    /// When set, the vault lets the caller have the token for these alone.
    purposes: Option<Vec<String>>,
    value: Opener,
    answer: Answer,
    notes: Notes,
    /// Quotas count its accesses: others may wait for those that are not made.
    counted: bool,
    last_served: BootTime,
    /// A newer version exists.
    pub(crate) superseded: bool,
    /// There is no more for now: it is served to its end.
    pub(crate) is_last: bool,
}

/// One access: whose claims, and when it came in.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) app_name: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) boot: BootTime,
    pub(crate) wall: UnixMillis,
}

/// Why an allowance did not serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unserved {
    /// The lease is over or nothing is left: another allowance is needed.
    Exhausted,
    /// The caller may not have the token for this purpose.
    PurposeNotAllowed,
    /// The value does not open any more: memory was damaged.
    Unusable,
}

/// When an allowance was asked for.
pub(crate) struct Asked {
    /// When the request was sent for the first time.
    pub(crate) sent: BootTime,
    /// When the answer came.
    pub(crate) answered: BootTime,
    /// Any byte, evenly distributed.
    pub(crate) jitter: u8,
}

impl Allowance {
    /// What was granted, nothing of it served yet.
    pub(crate) fn new(grant: Grant, asked: &Asked) -> Self {
        Self {
            id: grant.allowance_id,
            version: grant.version,
            lease: Lease::new(asked.sent, grant.length, asked.jitter),
            began: asked.sent,
            granted: grant.units,
            left: grant.units,
            purposes: grant.purposes,
            value: grant.value,
            answer: grant.answer,
            notes: Notes::default(),
            counted: grant.counted,
            last_served: asked.answered,
            superseded: false,
            is_last: false,
        }
    }

    /// Serves one access: it is counted and noted first, then the value is
    /// opened, and last the lease is looked at again, because the process may
    /// have been stopped in between. An access that fails after it was counted
    /// stays counted: the record may name one too many, never one too few.
    ///
    /// Nothing else runs on the broker's one thread meanwhile, so a revocation
    /// is either seen before this or comes after.
    pub(crate) fn serve(
        &mut self,
        access: Access<'_>,
        clock: &dyn Clock,
        scratch: &mut PlainBuffer,
    ) -> Result<Bytes, Unserved> {
        if self.lease.is_over(access.boot) {
            return Err(Unserved::Exhausted);
        }
        if let Some(allowed) = &self.purposes
            && !allowed.iter().any(|purpose| purpose == access.purpose)
        {
            return Err(Unserved::PurposeNotAllowed);
        }
        self.left = self.left.checked_sub(1).ok_or(Unserved::Exhausted)?;
        self.last_served = access.boot;
        self.notes.add(access.app_name, access.purpose, access.wall);
        let plaintext = self.value.open(scratch).map_err(|_| Unserved::Unusable)?;
        let value = std::str::from_utf8(plaintext.expose()).map_err(|_| Unserved::Unusable)?;
        let body = self
            .answer
            .fill(value, self.lease.remaining(access.boot))
            .map_err(|_| Unserved::Unusable)?;
        if self.lease.is_over(clock.boot()) {
            return Err(Unserved::Exhausted);
        }
        Ok(body)
    }

    /// Whether the next one should be asked for while this one still serves.
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        let is_due = self.superseded || self.left < self.granted / 2 || self.lease.is_due(now);
        is_due && !self.is_last
    }

    /// Whether nothing may be served from it any more.
    pub(crate) fn is_over(&self, now: BootTime) -> bool {
        self.lease.is_over(now)
    }

    /// Whether quotas count it and nobody has used it for a while.
    pub(crate) fn is_idle(&self, now: BootTime) -> bool {
        self.counted && now.since(self.last_served) >= IDLE
    }

    /// Its use begins now, and not when it was asked for.
    pub(crate) fn begin(&mut self, now: BootTime) {
        self.began = now;
    }

    /// Whether what is left of it is served before `other` is begun.
    pub(crate) fn is_as_good_as(&self, other: &Self) -> bool {
        self.left > 0 && !self.superseded && self.version == other.version
    }

    /// Whether quotas count its accesses.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted
    }

    /// Accesses over the length of two leases, at the rate seen so far; over half of
    /// one where quotas count them.
    pub(crate) fn forecast(&self, now: BootTime) -> u64 {
        let used = u128::from(self.granted - self.left);
        let elapsed = now.since(self.began).as_millis().max(1);
        let lease = self.lease.length().as_millis();
        let horizon = if self.counted { lease / 2 } else { 2 * lease };
        u64::try_from(used * horizon / elapsed).unwrap_or(u64::MAX)
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn notes_mut(&mut self) -> (&str, &mut Notes) {
        (&self.id, &mut self.notes)
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Ends it: keys are zeroed, only what must be reported stays.
    pub(crate) fn end(self) -> (String, Notes) {
        (self.id, self.notes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bursar_wire::v1alpha1::{Granted, Purposes};
    use serde_json::Value;

    use super::*;
    use crate::allowance::testing::{ManualClock, StoppedBetweenLooks, access, granted, tenant};

    fn take(granted: Granted, clock: &dyn Clock) -> Allowance {
        let asked = Asked {
            sent: clock.boot(),
            answered: clock.boot(),
            jitter: 128,
        };
        let grant = Grant::new(granted, tenant(), "ana", &mut PlainBuffer::new());
        Allowance::new(grant.unwrap(), &asked)
    }

    fn serve(allowance: &mut Allowance, clock: &dyn Clock) -> Result<Value, Unserved> {
        let body = allowance.serve(access(clock), clock, &mut PlainBuffer::new())?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn exactly_as_many_accesses_as_granted_are_served_and_noted() {
        let clock = ManualClock::new();
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock);
        for _ in 0..3 {
            let answer = serve(&mut allowance, &clock).unwrap();
            assert_eq!(
                (&answer["token"], &answer["expires_in"]),
                (&"s3cret".into(), &59.into())
            );
        }
        assert_eq!(serve(&mut allowance, &clock), Err(Unserved::Exhausted));
        assert_eq!(allowance.notes().accesses(), 3);
    }

    #[test]
    fn nothing_is_served_once_the_lease_is_over() {
        let clock = ManualClock::new();
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock);
        clock.advance(Duration::from_millis(59_939));
        assert!(serve(&mut allowance, &clock).is_ok());
        clock.advance(Duration::from_millis(1));
        assert_eq!(serve(&mut allowance, &clock), Err(Unserved::Exhausted));
        assert_eq!(allowance.notes().accesses(), 1);
    }

    #[test]
    fn an_access_that_is_stopped_past_the_end_is_counted_and_not_answered() {
        let now = BootTime::after_boot(Duration::from_secs(1_000));
        let clock = StoppedBetweenLooks {
            now: Cell::new(now),
            stopped: Duration::ZERO,
        };
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock);
        let clock = StoppedBetweenLooks {
            stopped: Duration::from_secs(60),
            ..clock
        };
        assert_eq!(serve(&mut allowance, &clock), Err(Unserved::Exhausted));
        assert_eq!(allowance.notes().accesses(), 1);
    }

    #[test]
    fn a_restricted_allowance_serves_its_purposes_alone() {
        let clock = ManualClock::new();
        for (purposes, allowed) in [
            (vec!["sync"], true),
            (vec!["other"], false),
            (vec![], false),
        ] {
            let purposes = purposes.into_iter().map(str::to_owned).collect();
            let restricted = Granted {
                purposes: Some(Purposes { purposes }),
                ..granted("a1", 1, b"s3cret")
            };
            let mut allowance = take(restricted, &clock);
            let served = serve(&mut allowance, &clock);
            assert_eq!(served.is_ok(), allowed);
            assert_eq!(allowance.notes().accesses(), u64::from(allowed));
            if !allowed {
                assert_eq!(served, Err(Unserved::PurposeNotAllowed));
            }
        }
    }

    #[test]
    fn the_next_is_due_past_half_of_the_units_or_the_lease_or_a_new_version() {
        let clock = ManualClock::new();
        let mut by_units = take(granted("a1", 4, b"s3cret"), &clock);
        assert!(!by_units.is_due(clock.boot()));
        for _ in 0..2 {
            serve(&mut by_units, &clock).unwrap();
            assert!(!by_units.is_due(clock.boot()));
        }
        serve(&mut by_units, &clock).unwrap();
        assert!(by_units.is_due(clock.boot()));

        let mut by_version = take(granted("a2", 4, b"s3cret"), &clock);
        by_version.superseded = true;
        assert!(by_version.is_due(clock.boot()));

        let by_time = take(granted("a3", 4, b"s3cret"), &clock);
        clock.advance(Duration::from_secs(36));
        assert!(by_time.is_due(clock.boot()) && !by_time.is_over(clock.boot()));
    }

    #[test]
    fn the_forecast_is_the_rate_so_far_over_two_leases() {
        let clock = ManualClock::new();
        let mut allowance = take(granted("a1", 100, b"s3cret"), &clock);
        assert_eq!(allowance.forecast(clock.boot()), 0);
        for _ in 0..10 {
            serve(&mut allowance, &clock).unwrap();
        }
        clock.advance(Duration::from_secs(1));
        // Ten a second over 2 x 59.94 s.
        assert_eq!(allowance.forecast(clock.boot()), 1_198);
    }
}
