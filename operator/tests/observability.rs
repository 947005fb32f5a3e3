//! The dashboard and the alert rules speak of metrics that there are. Which there are stands in
//! docs/reference.md, which other tests hold to what the processes show.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(path).unwrap()
}

/// The metrics in the reference, by name, with the whole row.
fn metrics() -> BTreeMap<String, String> {
    let page = read("docs/reference.md");
    let rows = page.lines().filter_map(|line| {
        let name = line.strip_prefix("| `bursar_")?.split_once('`')?.0;
        Some((format!("bursar_{name}"), line.to_owned()))
    });
    rows.collect()
}

/// The metrics that an expression is about.
fn named(expr: &str) -> BTreeSet<String> {
    let words = expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("bursar_"))
        .map(ToOwned::to_owned)
        .collect()
}

/// What is wrong with an expression, as far as that can be told without Prometheus.
fn check(expr: &str, metrics: &BTreeMap<String, String>) -> Result<(), String> {
    let named = named(expr);
    if named.is_empty() {
        return Err(format!("no metric of ours in {expr}"));
    }
    for name in named {
        let is_histogram = |row: &str| row.contains("| histogram |");
        let of_histogram = ["_bucket", "_count", "_sum"].iter().any(|suffix| {
            let histogram = name.strip_suffix(suffix);
            histogram.is_some_and(|name| metrics.get(name).is_some_and(|row| is_histogram(row)))
        });
        if !of_histogram && metrics.get(&name).is_none_or(|row| is_histogram(row)) {
            return Err(format!("{name} is not a series: {expr}"));
        }
    }
    for pair in ["()", "[]", "{}"] {
        let count = |bracket| expr.matches(bracket).count();
        if count(&pair[..1]) != count(&pair[1..]) {
            return Err(format!("unbalanced {pair}: {expr}"));
        }
    }
    Ok(())
}

#[test]
fn an_expression_about_what_there_is_not_is_found() {
    let metrics = metrics();
    check("sum(bursar_broker_attached)", &metrics).unwrap();
    check(
        "rate(bursar_vault_call_duration_seconds_bucket[5m])",
        &metrics,
    )
    .unwrap();
    for wrong in [
        "up",
        "bursar_broker_detached",
        "bursar_broker_attached_count",
        "bursar_vault_call_duration_seconds",
        "sum(bursar_broker_attached",
    ] {
        assert!(check(wrong, &metrics).is_err(), "{wrong}");
    }
}

#[test]
fn every_panel_of_the_dashboard_shows_metrics_that_there_are_and_every_metric_is_shown() {
    let metrics = metrics();
    let dashboard: Value =
        serde_json::from_str(&read("observability/grafana/bursar.json")).unwrap();
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!(variable["type"], "datasource");
    assert_eq!(variable["query"], "prometheus");
    let source = format!("${{{}}}", variable["name"].as_str().unwrap());
    let mut ids = HashSet::new();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], source.as_str(), "{title}");
            let expr = target["expr"].as_str().unwrap();
            check(expr, &metrics).unwrap_or_else(|error| panic!("{title}: {error}"));
            shown.extend(named(expr));
        }
    }
    for metric in metrics.keys() {
        let mut series = shown.iter().map(|name| name.trim_end_matches("_bucket"));
        assert!(series.any(|name| name == metric), "no panel for {metric}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(default)]
    r#for: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn every_alert_is_about_metrics_that_there_are_and_says_what_to_do_and_every_alarm_has_one() {
    let metrics = metrics();
    let rules: Rules =
        serde_saphyr::from_str(&read("observability/prometheus/alerts.yaml")).unwrap();
    let mut names = HashSet::new();
    let mut watched = BTreeSet::new();
    for group in &rules.groups {
        assert!(names.insert(&group.name), "{} twice", group.name);
        for rule in &group.rules {
            let name = &rule.alert;
            assert!(names.insert(name), "{name} twice");
            check(&rule.expr, &metrics).unwrap_or_else(|error| panic!("{name}: {error}"));
            watched.extend(named(&rule.expr));
            let severity = rule.labels.get("severity").map(String::as_str);
            assert!(
                matches!(severity, Some("critical" | "warning" | "info")),
                "{name}"
            );
            let pause = rule.r#for.as_deref().unwrap_or("1m");
            assert!(
                pause.strip_suffix('m').unwrap().parse::<u32>().is_ok(),
                "{name}"
            );
            let says = |annotation: &str| rule.annotations.get(annotation).map_or(0, String::len);
            assert!(says("summary") > 20 && says("description") > 60, "{name}");
        }
    }
    for (metric, row) in metrics {
        let is_watched = watched
            .iter()
            .any(|name| name.trim_end_matches("_bucket") == metric);
        assert!(
            is_watched || !row.contains("alarm"),
            "no alert for {metric}"
        );
    }
}
