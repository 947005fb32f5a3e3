//! Numbers for operators. Labels come from fixed lists: no user, token, app or
//! purpose is ever one.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::http::problem::Code;

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
    /// Time spent in calls to the vault.
    pub(crate) vault_seconds: Counter<f64, AtomicU64>,
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
            vault_seconds: Counter::default(),
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
            "vault_calls_duration",
            "Time spent in calls to the vault",
            Unit::Seconds,
            metrics.vault_seconds.clone(),
        );
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

    /// Counts a call to the vault.
    pub(crate) fn vault_call(&self, call: &'static str, outcome: &'static str) {
        self.vault_calls
            .get_or_create(&VaultCall { call, outcome })
            .inc();
    }

    /// Everything in the OpenMetrics text format.
    pub(crate) fn encode(&self) -> String {
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
        for (number, code) in Code::ALL.into_iter().enumerate() {
            for _ in 0..=number {
                metrics.refused(code);
            }
        }
        let text = metrics.encode();
        for (number, code) in Code::ALL.into_iter().enumerate() {
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
        metrics.vault_call("Grant", "Ok");
        let text = metrics.encode();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types: Vec<(&str, &str)> = types.filter_map(|line| line.split_once(' ')).collect();
        assert_eq!(types.len(), 9, "{types:?}");
        for (name, type_) in types {
            let suffix = if type_ == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {type_} |");
            assert!(page.contains(&row), "no row {row:?}");
        }
    }

    #[test]
    fn the_text_names_what_is_counted() {
        let metrics = Metrics::new();
        metrics.served.inc();
        metrics.vault_call("Grant", "Ok");
        let text = metrics.encode();
        for line in [
            "bursar_broker_answers_total{code=\"Served\"} 1\n",
            "bursar_broker_vault_calls_total{call=\"Grant\",outcome=\"Ok\"} 1\n",
            "bursar_broker_attached 0\n",
            "bursar_broker_vault_calls_duration_seconds_total 0",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
