//! What the service counts. Labels come from fixed sets: no user, token,
//! application or pod is named here.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::calls::Calls;
use crate::integrity;

/// A label of these values, and a list of all of them.
macro_rules! label {
    ($(#[$doc:meta])* $vis:vis $name:ident { $($(#[$value_doc:meta])* $value:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
        $vis enum $name {
            $($(#[$value_doc])* $value),+
        }

        impl $name {
            const ALL: &[Self] = &[$(Self::$value),+];
        }
    };
}
pub(super) use label;

/// The metrics of one replica's vault service.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    attaches: Family<AttachLabels, Counter>,
    grants: Family<GrantLabels, Counter>,
    counting: Family<CountingLabels, Counter>,
    reports: Family<ReportLabels, Counter>,
    denials_told: Family<ToldLabels, Counter>,
    fenced: Family<FenceLabels, Counter>,
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
    pub(crate) calls: Calls,
    pub(crate) failed_trims: Counter,
    pub(crate) audit_days_ahead: Gauge,
}

label! {
    /// How an attach ended.
    pub(crate) Attached {
        New,
        Resumed,
        Protocol,
        Refused,
        Crowded,
        NoTenant,
        Unavailable,
    }
}

label! {
    /// What was asked about a workload's own counter.
    pub(crate) Counting {
        Consume,
        Release,
    }
}

/// How a grant, or such a question, was answered.
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
    Counted,
    /// As before, to a request that was sent again.
    Repeated,
    CounterNotFound,
    IdempotencyKeyReused,
}

impl Answer {
    const OF_GRANTS: [Self; 9] = [
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
    const OF_COUNTING: [Self; 6] = [
        Self::Counted,
        Self::Repeated,
        Self::Forbidden,
        Self::CounterNotFound,
        Self::QuotaExhausted,
        Self::IdempotencyKeyReused,
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
            Self::Counted => "Counted",
            Self::Repeated => "Repeated",
            Self::CounterNotFound => "CounterNotFound",
            Self::IdempotencyKeyReused => "IdempotencyKeyReused",
        }
    }
}

label! {
    /// How a report was taken.
    pub(crate) Taken {
        Recorded,
        Repeated,
        Refused,
    }
}

label! {
    /// What became of a denial that a broker told of.
    pub(crate) Told {
        Recorded,
        /// Beyond what a pod may tell of in an hour.
        Dropped,
    }
}

label! {
    /// Why an incarnation was ended by the vault.
    pub(crate) Fenced {
        /// Another run of the same pod attached.
        Replaced,
        /// A report's number came with another content.
        ReportChanged,
        /// A report told of what cannot have happened.
        ReportUntrue,
    }
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
struct CountingLabels {
    call: Counting,
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabels {
    outcome: Taken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToldLabels {
    outcome: Told,
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
        registry.register(
            "consumptions",
            "Consumptions and releases of workloads' own units, answered",
            metrics.counting.clone(),
        );
        registry.register("reports", "Reports received", metrics.reports.clone());
        registry.register(
            "denials_told",
            "Refusals that brokers told of one by one",
            metrics.denials_told.clone(),
        );
        registry.register(
            "incarnations_fenced",
            "Broker runs the vault ended; alarm on ReportChanged and ReportUntrue",
            metrics.fenced.clone(),
        );
        registry.register(
            "integrity_failures",
            "Rows read whose MAC did not fit; alarm on any",
            integrity::found(),
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
        metrics.calls.register(registry);
        registry.register(
            "failed_trims",
            "Times that rows without use could not be deleted",
            metrics.failed_trims.clone(),
        );
        registry.register(
            "audit_days_ahead",
            "Days after today that accesses can be recorded in; alarm below 2",
            metrics.audit_days_ahead.clone(),
        );
        metrics.start_at_zero();
        metrics
    }

    /// A series that is absent until its first increment hides that increment from `increase()`.
    fn start_at_zero(&self) {
        for &outcome in Attached::ALL {
            drop(self.attaches.get_or_create(&AttachLabels { outcome }));
        }
        for answer in Answer::OF_GRANTS {
            drop(self.grants.get_or_create(&GrantLabels { answer }));
        }
        for &call in Counting::ALL {
            for answer in Answer::OF_COUNTING {
                drop(
                    self.counting
                        .get_or_create(&CountingLabels { call, answer }),
                );
            }
        }
        for &outcome in Taken::ALL {
            drop(self.reports.get_or_create(&ReportLabels { outcome }));
        }
        for &outcome in Told::ALL {
            drop(self.denials_told.get_or_create(&ToldLabels { outcome }));
        }
        self.calls.start_at_zero();
        for &reason in Fenced::ALL {
            drop(self.fenced.get_or_create(&FenceLabels { reason }));
        }
    }

    pub(crate) fn attach(&self, outcome: Attached) {
        self.attaches.get_or_create(&AttachLabels { outcome }).inc();
    }

    pub(crate) fn grant(&self, answer: Answer) {
        self.grants.get_or_create(&GrantLabels { answer }).inc();
    }

    pub(crate) fn counting(&self, call: Counting, answer: Answer) {
        let labels = CountingLabels { call, answer };
        self.counting.get_or_create(&labels).inc();
    }

    pub(crate) fn report(&self, outcome: Taken) {
        self.reports.get_or_create(&ReportLabels { outcome }).inc();
    }

    pub(crate) fn told(&self, outcome: Told, denials: usize) {
        let counter = self.denials_told.get_or_create(&ToldLabels { outcome });
        counter.inc_by(u64::try_from(denials).unwrap_or(u64::MAX));
    }

    pub(crate) fn fence(&self, reason: Fenced) {
        self.fenced.get_or_create(&FenceLabels { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_before_its_first_increment() {
        let mut registry = Registry::default();
        let _metrics = Metrics::new(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for series in [
            "attaches_total{outcome=\"Unavailable\"}",
            "grants_total{answer=\"AskAgain\"}",
            "consumptions_total{call=\"Release\",answer=\"IdempotencyKeyReused\"}",
            "reports_total{outcome=\"Refused\"}",
            "denials_told_total{outcome=\"Dropped\"}",
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
