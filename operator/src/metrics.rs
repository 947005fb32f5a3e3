//! What the operator counts. Labels come from fixed sets, so that no user, token
//! or namespace is named and their number is bounded.

mod labels;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

pub(crate) use labels::{Enforced, Kind, Outcome, PeopleCall, QuotaUse};
use labels::{PeopleLabels, QuotaLabels, ReconcileLabels, STATUSES};

/// The operator's metrics, and in time those of the vault's service.
pub(crate) struct Metrics {
    registry: Registry,
    service: OnceLock<Registry>,
    reconciles: Family<ReconcileLabels, Counter>,
    versions_stored: Counter,
    secret_to_stored: Histogram,
    namespaces_onboarded: Gauge,
    database_clock_ahead: Gauge<f64, std::sync::atomic::AtomicU64>,
    controllers_active: Gauge,
    quotas: Family<QuotaLabels, Gauge>,
    failed_retention: Counter,
    failed_checkpoints: Counter,
    last_checkpoint: Gauge,
    people_requests: Family<PeopleLabels, Counter>,
    people_crowded_sources: Counter,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("bursar"),
            service: OnceLock::new(),
            reconciles: Family::default(),
            versions_stored: Counter::default(),
            // 1 ms to 32 s.
            secret_to_stored: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            namespaces_onboarded: Gauge::default(),
            database_clock_ahead: Gauge::default(),
            controllers_active: Gauge::default(),
            quotas: Family::default(),
            failed_retention: Counter::default(),
            failed_checkpoints: Counter::default(),
            last_checkpoint: Gauge::default(),
            people_requests: Family::default(),
            people_crowded_sources: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "reconciles",
            "Attempts to bring the vault in line with an object",
            self.reconciles.clone(),
        );
        registry.register(
            "versions_stored",
            "Token versions stored in the vault by this process",
            self.versions_stored.clone(),
        );
        registry.register_with_unit(
            "secret_to_stored",
            "From hearing of a changed Secret to its value being stored",
            Unit::Seconds,
            self.secret_to_stored.clone(),
        );
        registry.register(
            "namespaces_onboarded",
            "Namespaces with objects of ours whose Secrets may be read",
            self.namespaces_onboarded.clone(),
        );
        registry.register_with_unit(
            "database_clock_ahead",
            "How far the database's clock is ahead of this process's",
            Unit::Seconds,
            self.database_clock_ahead.clone(),
        );
        registry.register(
            "controllers_active",
            "1 while this process reconciles objects",
            self.controllers_active.clone(),
        );
        registry.register(
            "quotas",
            "Quotas by how much of them is used, while this process reconciles objects",
            self.quotas.clone(),
        );
        registry.register(
            "failed_retention",
            "Looks for records behind the retention that failed",
            self.failed_retention.clone(),
        );
        registry.register(
            "failed_checkpoints",
            "Checkpoints of the audit that were not written, or not bound outside the database",
            self.failed_checkpoints.clone(),
        );
        registry.register_with_unit(
            "last_checkpoint_timestamp",
            "When the checkpoints of the audit were last up to date and bound outside the database",
            Unit::Seconds,
            self.last_checkpoint.clone(),
        );
        registry.register(
            "people_requests",
            "What people asked, and the class of the answer's status",
            self.people_requests.clone(),
        );
        registry.register(
            "people_crowded_sources",
            "Connections of people closed because their address had too many",
            self.people_crowded_sources.clone(),
        );
        self.quotas(&[]);
        for call in PeopleCall::ALL {
            for status in STATUSES {
                drop(
                    self.people_requests
                        .get_or_create(&PeopleLabels { call, status }),
                );
            }
        }
        self
    }

    /// Counts one attempt.
    pub(crate) fn reconciled(&self, kind: Kind, result: Outcome) {
        self.reconciles
            .get_or_create(&ReconcileLabels { kind, result })
            .inc();
    }

    /// Counts one version stored; `took` since the Secret's change was heard of, if it was one.
    pub(crate) fn version_stored(&self, took: Option<Duration>) {
        self.versions_stored.inc();
        if let Some(took) = took {
            self.secret_to_stored.observe(took.as_secs_f64());
        }
    }

    /// One namespace more (or less, if `more` is false) whose Secrets may be read.
    pub(crate) fn onboarded(&self, more: bool) {
        self.namespaces_onboarded.inc_by(if more { 1 } else { -1 });
    }

    /// The database's clock less ours, in seconds.
    pub(crate) fn database_clock_ahead(&self, seconds: f64) {
        self.database_clock_ahead.set(seconds);
    }

    /// So many checkpoints of the audit were not written, or not bound outside the database.
    pub(crate) fn checkpoints_failed(&self, count: u32) {
        self.failed_checkpoints.inc_by(count.into());
    }

    /// The checkpoints of the audit were up to date and bound outside the database at this time.
    pub(crate) fn checkpointed(&self, time: Timestamp) {
        self.last_checkpoint.set(time.as_second());
    }

    /// Counts one answer to a person.
    pub(crate) fn person_asked(&self, call: PeopleCall, status: StatusCode) {
        let status = match status.as_u16() {
            ..400 => STATUSES[0],
            400..500 => STATUSES[1],
            500.. => STATUSES[2],
        };
        let labels = PeopleLabels { call, status };
        self.people_requests.get_or_create(&labels).inc();
    }

    /// A connection was closed because its address had too many.
    pub(crate) fn people_crowded(&self) {
        self.people_crowded_sources.inc();
    }

    /// How much of each quota is used.
    pub(crate) fn quotas(&self, uses: &[(Enforced, QuotaUse)]) {
        for enforcement in Enforced::ALL {
            for usage in QuotaUse::ALL {
                let same = uses.iter().filter(|one| **one == (enforcement, usage));
                let labels = QuotaLabels { enforcement, usage };
                let gauge = self.quotas.get_or_create(&labels);
                gauge.set(i64::try_from(same.count()).unwrap_or(i64::MAX));
            }
        }
    }

    /// Whether this process reconciles; one that does not tells nothing of quotas.
    pub(crate) fn controllers_active(&self, active: bool) {
        self.controllers_active.set(active.into());
        if !active {
            self.quotas(&[]);
        }
    }

    /// Records behind the retention could not be dropped.
    pub(crate) fn failed_retention(&self) {
        self.failed_retention.inc();
    }

    /// Adds what the vault's service counts.
    pub(crate) fn add_service(&self, service: Registry) {
        // Called once: the service is started once.
        let _ = self.service.set(service);
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        if let Some(service) = self.service.get() {
            encode_registry(&mut text, service)?;
        }
        encode_eof(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Enforced, Kind, Metrics, Outcome, PeopleCall, QuotaUse};

    #[test]
    fn the_reference_has_every_metric_with_its_type() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let page = std::fs::read_to_string(page).unwrap();
        let metrics = Metrics::new();
        // One with labels shows once it has counted.
        metrics.reconciled(Kind::TokenUser, Outcome::Reconciled);
        metrics.person_asked(PeopleCall::Audit, StatusCode::OK);
        let text = metrics.encode().unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(types.len(), 12, "{types:?}");
        for (name, type_) in types {
            let suffix = if type_ == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {type_} |");
            assert!(page.contains(&row), "no row {row:?}");
        }
    }

    #[test]
    fn quotas_are_counted_by_how_much_is_used_until_another_process_reconciles() {
        let uses = [
            (0, 10),
            (4, 10),
            (5, 10),
            (8, 10),
            (9, 10),
            (10, 10),
            (11, 10),
            (0, 0),
        ];
        let enforced = uses.map(|(used, limit)| (Enforced::Enforce, QuotaUse::of(used, limit)));
        let metrics = Metrics::new();
        metrics.quotas(&[&enforced[..], &[(Enforced::Warn, QuotaUse::Exhausted)]].concat());
        let count = |usage: &str| {
            let text = metrics.encode().unwrap();
            let line = format!("bursar_quotas{{enforcement=\"Enforce\",usage=\"{usage}\"}} ");
            text.lines()
                .find_map(|found| found.strip_prefix(&line)?.parse::<u32>().ok())
        };
        let counts = ["BelowHalf", "Half", "Most", "Exhausted"].map(count);
        assert_eq!(counts, [Some(2), Some(2), Some(1), Some(3)]);
        metrics.controllers_active(false);
        assert_eq!(count("Exhausted"), Some(0));
    }

    #[test]
    fn what_people_ask_is_counted_by_call_and_class_of_status() {
        let metrics = Metrics::new();
        for status in [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            metrics.person_asked(PeopleCall::Revoke, status);
        }
        let text = metrics.encode().unwrap();
        for line in [
            "bursar_people_requests_total{call=\"Revoke\",status=\"2xx\"} 1\n",
            "bursar_people_requests_total{call=\"Revoke\",status=\"4xx\"} 2\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn metrics_are_written_with_their_units_and_one_end() {
        let metrics = Metrics::new();
        metrics.reconciled(Kind::TokenUser, Outcome::Reconciled);
        metrics.version_stored(Some(std::time::Duration::from_millis(3)));
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("bursar_reconciles_total{kind=\"TokenUser\",result=\"Reconciled\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("bursar_secret_to_stored_seconds_count 1\n"),
            "{text}"
        );
        assert_eq!(text.matches("# EOF").count(), 1);
    }
}
