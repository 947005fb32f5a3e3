//! Numbers for operators. Labels come from fixed lists: no user, token, app or
//! purpose is ever one.

use std::cell::Cell;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::http::code::Code;

/// All metrics of one broker.
pub(crate) struct Metrics {
    registry: Registry,
    /// Calls answered with 200.
    pub(crate) served: Counter,
    /// Refusals, by the number of their code: looked up without hashing.
    refused: Vec<Counter>,
    /// Signatures of callers' tokens that were verified, good or not.
    pub(crate) signatures: Counter,
    /// Allowances ended by a recall.
    pub(crate) recalled: Counter,
    /// 1 while attached and watching.
    pub(crate) attached: Gauge,
    /// Allowances held.
    pub(crate) allowances: Gauge,
    /// Accesses the vault has not acknowledged.
    pub(crate) unreported: Gauge,
    /// Accesses that can no longer be reported.
    pub(crate) lost: Counter,
    vault_calls: Family<VaultCall, Counter>,
    vault_seconds: Family<CallLabel, Histogram, fn() -> Histogram>,
    /// From a request's head to its answer.
    answer_seconds: Histogram,
    last_contact: Cell<Option<Instant>>,
    since_contact: Gauge<i64>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabel {
    call: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct VaultCall {
    call: &'static str,
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bursar_broker");
        let answers = Family::<CodeLabel, Counter>::default();
        let counter = |code| answers.get_or_create(&CodeLabel { code }).clone();
        let metrics = Self {
            served: counter("Served"),
            refused: Code::ALL.iter().map(|code| counter(code.name())).collect(),
            signatures: Counter::default(),
            recalled: Counter::default(),
            attached: Gauge::default(),
            allowances: Gauge::default(),
            unreported: Gauge::default(),
            lost: Counter::default(),
            vault_calls: Family::default(),
            // 1 ms to 8 s.
            vault_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 14))
            }),
            // 10 us, from memory, to 10 s, behind the vault.
            answer_seconds: Histogram::new(exponential_buckets(0.000_01, 4.0, 11)),
            last_contact: Cell::default(),
            since_contact: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("answers", "Calls answered, by code", answers);
        registry.register(
            "jwt_signatures",
            "Signatures of callers' tokens verified, good or not",
            metrics.signatures.clone(),
        );
        registry.register(
            "recalled",
            "Allowances ended by a recall",
            metrics.recalled.clone(),
        );
        registry.register(
            "attached",
            "1 while attached to the vault and watching",
            metrics.attached.clone(),
        );
        registry.register("allowances", "Allowances held", metrics.allowances.clone());
        registry.register(
            "unreported_accesses",
            "Accesses that the vault has not acknowledged",
            metrics.unreported.clone(),
        );
        registry.register(
            "lost_accesses",
            "Accesses that can no longer be reported; the vault records them as unaccounted for",
            metrics.lost.clone(),
        );
        registry.register(
            "vault_calls",
            "Calls to the vault, by call and outcome",
            metrics.vault_calls.clone(),
        );
        registry.register_with_unit(
            "vault_call_duration",
            "From a call to the vault to its answer",
            Unit::Seconds,
            metrics.vault_seconds.clone(),
        );
        registry.register_with_unit(
            "answer_duration",
            "From a call's arrival to its answer",
            Unit::Seconds,
            metrics.answer_seconds.clone(),
        );
        registry.register_with_unit(
            "since_vault_contact",
            "Since the vault last answered or told something; -1 before it ever did",
            Unit::Seconds,
            metrics.since_contact.clone(),
        );
        metrics.since_contact.set(-1);
        Self {
            registry,
            ..metrics
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, code: Code) {
        if let Some(counter) = self.refused.get(code as usize) {
            counter.inc();
        }
    }

    /// Counts an answer that took so long.
    pub(crate) fn answered(&self, took: Duration) {
        self.answer_seconds.observe(took.as_secs_f64());
    }

    /// Counts a call to the vault that began then and has just ended.
    pub(crate) fn vault_call(&self, call: &'static str, outcome: &'static str, began: Instant) {
        self.vault_calls
            .get_or_create(&VaultCall { call, outcome })
            .inc();
        self.vault_seconds
            .get_or_create(&CallLabel { call })
            .observe(began.elapsed().as_secs_f64());
        if outcome == "Ok" {
            self.vault_contact();
        }
    }

    /// The vault has just answered or told something.
    pub(crate) fn vault_contact(&self) {
        self.last_contact.set(Some(Instant::now()));
    }

    /// Everything in the OpenMetrics text format.
    pub(crate) fn encode(&self) -> String {
        if let Some(contact) = self.last_contact.get() {
            let since = contact.elapsed().as_secs();
            self.since_contact
                .set(i64::try_from(since).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_counted_under_its_own_code() {
        let metrics = Metrics::new();
        for (number, code) in Code::ALL.iter().copied().enumerate() {
            for _ in 0..=number {
                metrics.refused(code);
            }
        }
        let text = metrics.encode();
        for (number, code) in Code::ALL.iter().copied().enumerate() {
            let line = format!(
                "bursar_broker_answers_total{{code=\"{}\"}} {}\n",
                code.name(),
                number + 1
            );
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn the_reference_has_every_metric_with_its_type() {
        let page = include_str!("../../docs/reference.md");
        let metrics = Metrics::new();
        // One with labels shows once it has counted.
        metrics.vault_call("Grant", "Ok", Instant::now());
        let text = metrics.encode();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(types.len(), 11, "{types:?}");
        for (name, type_) in types {
            let suffix = if type_ == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {type_} |");
            assert!(page.contains(&row), "no row {row:?}");
        }
        let rows = page
            .lines()
            .filter(|line| line.starts_with("| `bursar_broker_"));
        assert_eq!(rows.count(), 11, "what is in the reference is there");
    }

    #[test]
    fn time_since_the_vault_was_heard_of_counts_from_its_last_good_answer() {
        let metrics = Metrics::new();
        let since = || {
            let text = metrics.encode();
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix("bursar_broker_since_vault_contact_seconds "));
            value.unwrap().parse::<i64>().unwrap()
        };
        assert_eq!(since(), -1);
        let a_minute_ago = Instant::now().checked_sub(Duration::from_secs(60));
        metrics.last_contact.set(a_minute_ago);
        metrics.vault_call("Report", "Failed", Instant::now());
        assert!(since() >= 60);
        metrics.vault_call("Report", "Ok", Instant::now());
        assert!(since() < 60);
    }

    #[test]
    fn the_text_names_what_is_counted() {
        let metrics = Metrics::new();
        metrics.served.inc();
        metrics.vault_call("Grant", "Ok", Instant::now());
        metrics.answered(Duration::from_micros(50));
        let text = metrics.encode();
        for line in [
            "bursar_broker_answers_total{code=\"Served\"} 1\n",
            "bursar_broker_vault_calls_total{call=\"Grant\",outcome=\"Ok\"} 1\n",
            "bursar_broker_attached 0\n",
            "bursar_broker_vault_call_duration_seconds_count{call=\"Grant\"} 1\n",
            "bursar_broker_answer_duration_seconds_bucket{le=\"0.00016\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
