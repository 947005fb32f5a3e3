//! Points in time as Postgres stores them.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, PgConnection, Postgres, Type};

/// 2000-01-01T00:00:00Z, from which Postgres counts, in microseconds since the
/// Unix epoch.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The limits of `timestamptz`: 4714-11-24 BC, and the end of the year 294276.
const FIRST_STORED: i64 = -211_813_488_000_000_000;
const END_OF_STORED: i64 = 9_223_371_331_200_000_000;

/// A `timestamptz`: microseconds since 2000-01-01T00:00:00Z, just as they lie in
/// the database. Reading one never fails, so that a row with an absurd time
/// (Postgres knows `infinity`) cannot take the rows beside it down; what it
/// means is asked with [`DbTime::timestamp`] once the row has been verified.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DbTime(i64);

impl DbTime {
    /// Later than all others; Postgres says `infinity`.
    pub(crate) const INFINITY: Self = Self(i64::MAX);
    /// Earlier than all others.
    pub(crate) const MINUS_INFINITY: Self = Self(i64::MIN);

    /// The opposite of [`Self::micros`].
    pub(crate) const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 2000-01-01T00:00:00Z; what the row's MAC covers.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The moment so much later; the last there is, past the end of time.
    pub(crate) fn after(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// The moment so much earlier.
    pub(crate) fn before(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// Whether Postgres stores it, as a moment.
    pub(crate) const fn is_storable(self) -> bool {
        FIRST_STORED <= self.0 && self.0 < END_OF_STORED
    }

    /// How much later this is than `earlier`; zero when it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The same moment, or `None` outside the years that `jiff` knows.
    #[must_use]
    pub fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0.checked_add(POSTGRES_EPOCH)?).ok()
    }
}

impl From<Timestamp> for DbTime {
    /// Drops what is finer than a microsecond, which Postgres does not store.
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond() - POSTGRES_EPOCH)
    }
}

impl Type<Postgres> for DbTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for DbTime {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("timestamptz")
    }
}

impl Encode<'_, Postgres> for DbTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0, buffer)
    }
}

impl Decode<'_, Postgres> for DbTime {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self(Decode::<Postgres>::decode(value)?)),
            PgValueFormat::Text => Err("times are read in binary form only".into()),
        }
    }
}

/// The database's present; within a transaction, its beginning.
pub(crate) async fn db_now(connection: &mut PgConnection) -> Result<DbTime, sqlx::Error> {
    sqlx::query_scalar!(r#"select now() as "now!: DbTime""#)
        .fetch_one(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_to_the_microsecond() {
        let time: Timestamp = "2026-11-21T09:30:00.123456789Z".parse().unwrap();
        let stored = DbTime::from(time);
        assert_eq!(
            stored.timestamp().unwrap().to_string(),
            "2026-11-21T09:30:00.123456Z"
        );
        let epoch: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(DbTime::from(epoch).micros(), 0);
    }

    #[test]
    fn time_left_is_never_negative() {
        let later = DbTime(5).after(Duration::from_micros(7));
        assert_eq!(later.since(DbTime(5)), Duration::from_micros(7));
        assert_eq!(DbTime(5).since(later), Duration::ZERO);
        assert_eq!(DbTime(i64::MIN).since(DbTime(i64::MAX)), Duration::ZERO);
    }

    #[test]
    fn infinity_is_no_moment() {
        assert_eq!(DbTime(i64::MAX).timestamp(), None);
        assert_eq!(DbTime(i64::MIN).timestamp(), None);
    }
}
