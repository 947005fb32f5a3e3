//! What the service counts. Labels come from fixed sets: no user, token,
//! application or pod is named here.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::error::CallError;
use crate::error::{Category, VaultError};

/// The metrics of one replica's vault service.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    attaches: Family<AttachLabels, Counter>,
    grants: Family<GrantLabels, Counter>,
    reports: Family<ReportLabels, Counter>,
    fenced: Family<FenceLabels, Counter>,
    pub(crate) integrity_failures: Counter,
    pub(crate) watchers: Gauge,
    pub(crate) slow_watchers: Counter,
    pub(crate) failed_handshakes: Counter,
    pub(crate) crowded_sources: Counter,
    pub(crate) failed_polls: Counter,
    pub(crate) resyncs: Counter,
    pub(crate) unaccounted: Counter,
    pub(crate) failed_sweeps: Counter,
    pub(crate) allowances_open: Gauge,
    pub(crate) lapsed: Counter,
    pub(crate) records: Counter,
    calls: Calls,
    store_errors: Family<StoreErrorLabels, Counter>,
}

/// A call of brokers whose time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Call {
    Attach,
    Grant,
    Report,
}

impl Call {
    const ALL: [Self; 3] = [Self::Attach, Self::Grant, Self::Report];
}

/// How the database failed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum StoreError {
    /// It is away or overloaded.
    Unavailable,
    /// It refused what should have worked.
    Refused,
}

impl StoreError {
    const ALL: [Self; 2] = [Self::Unavailable, Self::Refused];

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

/// The time that calls took.
#[derive(Clone)]
struct Calls(Family<CallLabels, Histogram, fn() -> Histogram>);

impl Default for Calls {
    fn default() -> Self {
        // 1 ms to 16 s.
        Self(Family::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 15))
        }))
    }
}

/// How an attach ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Attached {
    New,
    Resumed,
    Protocol,
    Refused,
    Crowded,
    NoTenant,
    Unavailable,
}

impl Attached {
    const ALL: [Self; 7] = [
        Self::New,
        Self::Resumed,
        Self::Protocol,
        Self::Refused,
        Self::Crowded,
        Self::NoTenant,
        Self::Unavailable,
    ];
}

/// How a grant was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Answer {
    Granted,
    Forbidden,
    TokenNotFound,
    TokenAmbiguous,
    NoVersion,
    Revoked,
    Expired,
    QuotaExhausted,
    AskAgain,
}

impl Answer {
    const ALL: [Self; 9] = [
        Self::Granted,
        Self::Forbidden,
        Self::TokenNotFound,
        Self::TokenAmbiguous,
        Self::NoVersion,
        Self::Revoked,
        Self::Expired,
        Self::QuotaExhausted,
        Self::AskAgain,
    ];

    /// As it stands in the table of denials.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "Granted",
            Self::Forbidden => "Forbidden",
            Self::TokenNotFound => "TokenNotFound",
            Self::TokenAmbiguous => "TokenAmbiguous",
            Self::NoVersion => "NoVersion",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
            Self::QuotaExhausted => "QuotaExhausted",
            Self::AskAgain => "AskAgain",
        }
    }
}

/// How a report was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Taken {
    Recorded,
    Repeated,
    Refused,
}

impl Taken {
    const ALL: [Self; 3] = [Self::Recorded, Self::Repeated, Self::Refused];
}

/// Why an incarnation was ended by the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Fenced {
    /// Another run of the same pod attached.
    Replaced,
    /// A report's number came with another content.
    ReportChanged,
    /// A report told of what cannot have happened.
    ReportUntrue,
}

impl Fenced {
    const ALL: [Self; 3] = [Self::Replaced, Self::ReportChanged, Self::ReportUntrue];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttachLabels {
    outcome: Attached,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GrantLabels {
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabels {
    outcome: Taken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: Call,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreErrorLabels {
    kind: StoreError,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FenceLabels {
    reason: Fenced,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("bursar_vault");
        registry.register("attaches", "Attach calls", metrics.attaches.clone());
        registry.register("grants", "Grants answered", metrics.grants.clone());
        registry.register("reports", "Reports received", metrics.reports.clone());
        registry.register(
            "incarnations_fenced",
            "Broker runs the vault ended; alarm on ReportChanged and ReportUntrue",
            metrics.fenced.clone(),
        );
        registry.register(
            "integrity_failures",
            "Rows read whose MAC did not fit; alarm on any",
            metrics.integrity_failures.clone(),
        );
        registry.register(
            "watchers",
            "Brokers being told of changes",
            metrics.watchers.clone(),
        );
        registry.register(
            "slow_watchers",
            "Brokers disconnected because they read too slowly",
            metrics.slow_watchers.clone(),
        );
        registry.register(
            "failed_handshakes",
            "Connections that did not finish TLS",
            metrics.failed_handshakes.clone(),
        );
        registry.register(
            "crowded_sources",
            "Connections closed because too many from their address had not attached",
            metrics.crowded_sources.clone(),
        );
        registry.register(
            "failed_polls",
            "Polls of the change log that failed",
            metrics.failed_polls.clone(),
        );
        registry.register(
            "resyncs",
            "Times all brokers were told to start watching anew",
            metrics.resyncs.clone(),
        );
        registry.register(
            "unaccounted_accesses",
            "Accesses granted to brokers that never reported on them",
            metrics.unaccounted.clone(),
        );
        registry.register(
            "failed_sweeps",
            "Sweeps of lapsed allowances that failed",
            metrics.failed_sweeps.clone(),
        );
        registry.register(
            "allowances_open",
            "Allowances that brokers of all replicas hold, as of the last sweep",
            metrics.allowances_open.clone(),
        );
        registry.register(
            "allowances_lapsed",
            "Allowances that brokers did not give back in time",
            metrics.lapsed.clone(),
        );
        registry.register("records", "Access records written", metrics.records.clone());
        registry.register_with_unit(
            "call_duration",
            "From a call's arrival to its answer",
            Unit::Seconds,
            metrics.calls.0.clone(),
        );
        registry.register(
            "database_errors",
            "Calls that failed because of the database",
            metrics.store_errors.clone(),
        );
        metrics.start_at_zero();
        metrics
    }

    /// A series that is absent until its first increment hides that increment from `increase()`.
    fn start_at_zero(&self) {
        for outcome in Attached::ALL {
            drop(self.attaches.get_or_create(&AttachLabels { outcome }));
        }
        for answer in Answer::ALL {
            drop(self.grants.get_or_create(&GrantLabels { answer }));
        }
        for outcome in Taken::ALL {
            drop(self.reports.get_or_create(&ReportLabels { outcome }));
        }
        for call in Call::ALL {
            drop(self.calls.0.get_or_create(&CallLabels { call }));
        }
        for kind in StoreError::ALL {
            drop(self.store_errors.get_or_create(&StoreErrorLabels { kind }));
        }
        for reason in Fenced::ALL {
            drop(self.fenced.get_or_create(&FenceLabels { reason }));
        }
    }

    /// The answer of a call, with its time kept.
    pub(crate) async fn timed<T>(&self, call: Call, answer: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = answer.await;
        let took = began.elapsed().as_secs_f64();
        self.calls
            .0
            .get_or_create(&CallLabels { call })
            .observe(took);
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

    pub(crate) fn attach(&self, outcome: Attached) {
        self.attaches.get_or_create(&AttachLabels { outcome }).inc();
    }

    pub(crate) fn grant(&self, answer: Answer) {
        self.grants.get_or_create(&GrantLabels { answer }).inc();
    }

    pub(crate) fn report(&self, outcome: Taken) {
        self.reports.get_or_create(&ReportLabels { outcome }).inc();
    }

    pub(crate) fn fence(&self, reason: Fenced) {
        self.fenced.get_or_create(&FenceLabels { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn every_series_is_there_before_its_first_increment() {
        let mut registry = Registry::default();
        let _metrics = Metrics::new(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for series in [
            "attaches_total{outcome=\"Unavailable\"}",
            "grants_total{answer=\"AskAgain\"}",
            "reports_total{outcome=\"Refused\"}",
            "incarnations_fenced_total{reason=\"Replaced\"}",
            "incarnations_fenced_total{reason=\"ReportUntrue\"}",
            "call_duration_seconds_count{call=\"Report\"}",
            "database_errors_total{kind=\"Refused\"}",
        ] {
            let line = format!("bursar_vault_{series} 0\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
