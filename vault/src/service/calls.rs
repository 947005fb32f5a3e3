//! How long brokers' calls take, and how many the database fails.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::error::CallError;
use super::metrics::label;
use crate::error::{Category, VaultError};

label! {
    /// A call whose time is kept.
    pub(crate) Call {
        Attach,
        Grant,
        Report,
    }
}

label! {
    /// How the database failed a call.
    StoreError {
        /// It is away or overloaded.
        Unavailable,
        /// It refused what should have worked.
        Refused,
    }
}

impl StoreError {
    /// `None` when it was not the database.
    fn of(error: &CallError) -> Option<Self> {
        match error {
            CallError::Silent => Some(Self::Unavailable),
            CallError::Store(error) if error.category() == Category::Unavailable => {
                Some(Self::Unavailable)
            }
            CallError::Store(VaultError::Database(_)) => Some(Self::Refused),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreErrorLabels {
    kind: StoreError,
}

/// The metrics of calls.
#[derive(Clone)]
pub(crate) struct Calls {
    durations: Family<CallLabels, Histogram, fn() -> Histogram>,
    store_errors: Family<StoreErrorLabels, Counter>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            // 1 ms to 16 s.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            store_errors: Family::default(),
        }
    }
}

impl Calls {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "call_duration",
            "From a call's arrival to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "database_errors",
            "Calls that failed because of the database",
            self.store_errors.clone(),
        );
    }

    pub(crate) fn start_at_zero(&self) {
        for &call in Call::ALL {
            drop(self.durations.get_or_create(&CallLabels { call }));
        }
        for &kind in StoreError::ALL {
            drop(self.store_errors.get_or_create(&StoreErrorLabels { kind }));
        }
    }

    /// The answer of a call, with its time kept.
    pub(crate) async fn timed<T>(&self, call: Call, answer: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = answer.await;
        let took = began.elapsed().as_secs_f64();
        let durations = self.durations.get_or_create(&CallLabels { call });
        durations.observe(took);
        drop(durations);
        answer
    }

    /// Counts a call that failed because of the database.
    pub(crate) fn failed(&self, error: &CallError) {
        if let Some(kind) = StoreError::of(error) {
            self.store_errors
                .get_or_create(&StoreErrorLabels { kind })
                .inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CallError, StoreError};

    #[test]
    fn only_errors_of_the_database_count_as_such() {
        let store = |error: sqlx::Error| StoreError::of(&error.into());
        assert_eq!(
            store(sqlx::Error::PoolTimedOut),
            Some(StoreError::Unavailable)
        );
        assert_eq!(store(sqlx::Error::RowNotFound), Some(StoreError::Refused));
        assert_eq!(
            StoreError::of(&CallError::Silent),
            Some(StoreError::Unavailable)
        );
        assert_eq!(StoreError::of(&CallError::NoTenant), None);
    }
}
