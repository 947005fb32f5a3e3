//! One allowance: so many accesses to one token version, until the lease ends.

use std::time::Duration;

use bursar_seal::{
    Ciphertext, DataKey, DataKeyError, Opener, PlainBuffer, TenantId, TokenId, TokenVersion,
    VALUE_COLUMN, ValueContext, VersionError,
};
use bursar_wire::v1alpha1::Granted;
use hyper::body::Bytes;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroize;

use super::answer::{Answer, Metadata};
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

/// Why an answer of the vault gives no allowance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("the vault granted a token whose id is no UUID")]
    TokenId(#[from] uuid::Error),
    #[error("the vault granted a token version that is none: {0}")]
    Version(#[from] VersionError),
    #[error("the vault granted an allowance without units")]
    NoUnits,
    #[error("the vault granted a token with a time out of range: {0}")]
    Time(#[from] jiff::Error),
    #[error("{0}")]
    Value(#[from] DataKeyError),
    #[error("the value of version {version} of token {token} is not UTF-8; store the token anew")]
    NotUtf8 {
        token: TokenId,
        version: TokenVersion,
    },
    #[error("the answer's metadata cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// A request for an allowance, as far as its answer depends on it.
pub(crate) struct Asked<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) user_id: &'a str,
    /// When it was sent for the first time.
    pub(crate) sent: BootTime,
    /// Any byte, evenly distributed.
    pub(crate) jitter: u8,
    /// When the answer came.
    pub(crate) answered: BootTime,
}

impl Allowance {
    /// Takes an answer of the vault. The value is opened once, so that a
    /// damaged one is found before it is counted as served.
    ///
    /// # Errors
    /// [`GrantError`] when the answer is malformed or the value does not open.
    pub(crate) fn new(
        mut granted: Granted,
        asked: &Asked<'_>,
        scratch: &mut PlainBuffer,
    ) -> Result<Self, GrantError> {
        let data_key = DataKey::from_bytes(&granted.data_key);
        granted.data_key.zeroize();
        let context = ValueContext {
            tenant: asked.tenant,
            token: Uuid::parse_str(&granted.token_id)?.into(),
            version: TokenVersion::try_from(granted.version)?,
            column: VALUE_COLUMN,
        };
        if granted.units == 0 {
            return Err(GrantError::NoUnits);
        }
        let metadata = Metadata {
            user_id: asked.user_id,
            name: &granted.token,
            provider: &granted.provider,
            version: granted.version,
            version_time: rfc3339(granted.version_time_ms)?,
            expiration_time: granted.expiration_time_ms.map(rfc3339).transpose()?,
        };
        let value = Opener::new(&data_key?, &context, Ciphertext::from(granted.ciphertext))?;
        let plaintext = value.open(scratch)?;
        let text = std::str::from_utf8(plaintext.expose()).map_err(|_| GrantError::NotUtf8 {
            token: context.token,
            version: context.version,
        })?;
        let answer = Answer::new(&metadata, text)?;
        drop(plaintext);
        Ok(Self {
            id: granted.allowance_id,
            version: (context.token, context.version),
            began: asked.sent,
            lease: Lease::new(
                asked.sent,
                Duration::from_millis(granted.expires_in_ms),
                asked.jitter,
            ),
            granted: granted.units,
            left: granted.units,
            purposes: granted.purposes.map(|restricted| restricted.purposes),
            value,
            answer,
            notes: Notes::default(),
            counted: granted.counted,
            last_served: asked.answered,
            superseded: false,
            is_last: false,
        })
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

fn rfc3339(unix_millis: i64) -> Result<String, jiff::Error> {
    Timestamp::from_millisecond(unix_millis).map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bursar_wire::v1alpha1::Purposes;
    use serde_json::Value;

    use super::*;
    use crate::allowance::testing::{ManualClock, StoppedBetweenLooks, access, granted, tenant};

    fn take(granted: Granted, clock: &dyn Clock) -> Result<Allowance, GrantError> {
        let asked = Asked {
            tenant: tenant(),
            user_id: "ana",
            sent: clock.boot(),
            jitter: 128,
            answered: clock.boot(),
        };
        Allowance::new(granted, &asked, &mut PlainBuffer::new())
    }

    fn serve(allowance: &mut Allowance, clock: &dyn Clock) -> Result<Value, Unserved> {
        let body = allowance.serve(access(clock), clock, &mut PlainBuffer::new())?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn exactly_as_many_accesses_as_granted_are_served_and_noted() {
        let clock = ManualClock::new();
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock).unwrap();
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
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock).unwrap();
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
        let mut allowance = take(granted("a1", 3, b"s3cret"), &clock).unwrap();
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
            let mut allowance = take(restricted, &clock).unwrap();
            let served = serve(&mut allowance, &clock);
            assert_eq!(served.is_ok(), allowed);
            assert_eq!(allowance.notes().accesses(), u64::from(allowed));
            if !allowed {
                assert_eq!(served, Err(Unserved::PurposeNotAllowed));
            }
        }
    }

    #[test]
    fn a_value_of_another_place_or_with_a_changed_bit_is_never_served() {
        let clock = ManualClock::new();
        let changes: [fn(&mut Granted); 6] = [
            |granted| granted.ciphertext[20] ^= 1,
            |granted| granted.data_key[0] ^= 1,
            |granted| granted.data_key.truncate(31),
            |granted| granted.version += 1,
            |granted| granted.token_id = "7b0a6f1e-9c5d-4a62-8f3b-2d1c0e9a8b7c".to_owned(),
            |granted| granted.ciphertext.clear(),
        ];
        for change in changes {
            let mut changed = granted("a1", 3, b"s3cret");
            change(&mut changed);
            assert!(matches!(take(changed, &clock), Err(GrantError::Value(_))));
        }
    }

    #[test]
    fn a_malformed_grant_is_refused_with_its_reason() {
        let clock = ManualClock::new();
        let base = || granted("a1", 3, b"s3cret");
        let no_id = Granted {
            token_id: "no uuid".into(),
            ..base()
        };
        assert!(matches!(take(no_id, &clock), Err(GrantError::TokenId(_))));
        let no_version = Granted {
            version: 0,
            ..base()
        };
        assert!(matches!(
            take(no_version, &clock),
            Err(GrantError::Version(_))
        ));
        let no_units = Granted { units: 0, ..base() };
        assert!(matches!(take(no_units, &clock), Err(GrantError::NoUnits)));
        let no_time = Granted {
            version_time_ms: i64::MAX,
            ..base()
        };
        assert!(matches!(take(no_time, &clock), Err(GrantError::Time(_))));
        let binary = granted("a1", 3, b"\xff\xfe");
        assert!(matches!(
            take(binary, &clock),
            Err(GrantError::NotUtf8 { .. })
        ));
    }

    #[test]
    fn the_next_is_due_past_half_of_the_units_or_the_lease_or_a_new_version() {
        let clock = ManualClock::new();
        let mut by_units = take(granted("a1", 4, b"s3cret"), &clock).unwrap();
        assert!(!by_units.is_due(clock.boot()));
        for _ in 0..2 {
            serve(&mut by_units, &clock).unwrap();
            assert!(!by_units.is_due(clock.boot()));
        }
        serve(&mut by_units, &clock).unwrap();
        assert!(by_units.is_due(clock.boot()));

        let mut by_version = take(granted("a2", 4, b"s3cret"), &clock).unwrap();
        by_version.superseded = true;
        assert!(by_version.is_due(clock.boot()));

        let by_time = take(granted("a3", 4, b"s3cret"), &clock).unwrap();
        clock.advance(Duration::from_secs(36));
        assert!(by_time.is_due(clock.boot()) && !by_time.is_over(clock.boot()));
    }

    #[test]
    fn the_forecast_is_the_rate_so_far_over_two_leases() {
        let clock = ManualClock::new();
        let mut allowance = take(granted("a1", 100, b"s3cret"), &clock).unwrap();
        assert_eq!(allowance.forecast(clock.boot()), 0);
        for _ in 0..10 {
            serve(&mut allowance, &clock).unwrap();
        }
        clock.advance(Duration::from_secs(1));
        // Ten a second over 2 x 59.94 s.
        assert_eq!(allowance.forecast(clock.boot()), 1_198);
    }
}
