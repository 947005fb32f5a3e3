//! What people see of a TokenQuota with kubectl: its columns, its status, its explanations.

use std::process::Command;

use bursar_crds::reasons::{ReadyReason, UsableReason};
use bursar_crds::{TokenQuota, TokenQuotaStatus, conditions, names};
use bursar_testbed::until;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{Cluster, LIMIT, PAUSE};

fn quota(name: &str, subject: &str, counter: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: TokenQuota, metadata: {{name: {name}}}, spec: \
         {{subject: {{{subject}}}, counter: {counter}, limit: 100, \
         window: {{type: Period, period: 24h}}}}}}"
    )
}

/// What kubectl prints, once it succeeds: it learns of kinds from the API server, which publishes
/// them a moment after they are established.
async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut refused = String::new();
    let printed = until(LIMIT, PAUSE, async || {
        let output = Command::new(cluster.testbed.kubectl())
            .arg("--kubeconfig")
            .arg(cluster.testbed.kubeconfig())
            .args(["--namespace", &cluster.namespace])
            .args(arguments)
            .output()
            .unwrap();
        refused = String::from_utf8(output.stderr).unwrap();
        let success = output.status.success();
        success.then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    printed.unwrap_or_else(|| panic!("kubectl {arguments:?}: {refused}"))
}

/// The lines of `kubectl get`, with single spaces and without the age.
async fn get(cluster: &Cluster) -> Vec<String> {
    let printed = kubectl(cluster, &["get", "tquota"]).await;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[..words.len() - 1].join(" ")
    };
    printed.lines().map(line).collect()
}

#[tokio::test]
async fn a_fresh_quota_never_reads_as_ready() {
    let cluster = Cluster::new().await;
    let fresh = quota("ana", "userRef: {name: ana}", "accesses");
    cluster.apply(&fresh).await.unwrap();
    assert_eq!(
        get(&cluster).await,
        [
            "NAME READY USABLE REASON SUBJECT COUNTER LIMIT USED RESETS",
            "ana Unknown Unknown Pending accesses 100",
        ]
    );
}

#[tokio::test]
async fn the_columns_say_whose_what_how_much_and_until_when() {
    let cluster = Cluster::new().await;
    let uploads = quota("uploads", "serviceAccountName: app", "filesUploaded");
    cluster.apply(&uploads).await.unwrap();
    let quotas =
        Api::<TokenQuota>::namespaced(cluster.as_operator().await.client, &cluster.namespace);
    let uploads = quotas.get("uploads").await.unwrap();
    let mut status: TokenQuotaStatus = uploads.status.clone().unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let of = uploads.metadata.generation;
    conditions::set(&mut status.conditions, ReadyReason::Reconciled, "", of, now);
    conditions::set(&mut status.conditions, UsableReason::Exhausted, "", of, now);
    status.observed_generation = of;
    let summary = conditions::summary(&status.conditions);
    (status.reason, status.message) = (Some(summary.reason), Some(summary.message));
    status.subject = Some(uploads.spec.subject.to_string());
    status.used = Some(100);
    status.window_end_time = Some(conditions::whole_seconds(now));
    status.enforced_from_time = Some(conditions::whole_seconds(now));
    let patch = json!({
        "apiVersion": "bursar.dev/v1alpha1",
        "kind": "TokenQuota",
        "status": status,
    });
    let written = quotas
        .patch_status(
            "uploads",
            &PatchParams::apply(names::FIELD_MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
        .unwrap();
    assert_eq!(written.status.unwrap(), status);
    assert_eq!(
        get(&cluster).await[1],
        "uploads True False Exhausted serviceaccount/app filesUploaded 100 100 \
         2027-01-15T08:00:00Z"
    );
}

#[tokio::test]
async fn quotas_can_be_selected_by_user_and_counter() {
    let cluster = Cluster::new().await;
    for yaml in [
        quota("ana", "userRef: {name: ana}", "accesses"),
        quota("bo", "userRef: {name: bo}", "filesUploaded"),
        quota("github", "tokenRef: {name: github}", "accesses"),
    ] {
        cluster.apply(&yaml).await.unwrap();
    }
    let quotas = Api::<TokenQuota>::namespaced(cluster.client.clone(), &cluster.namespace);
    for (selector, found) in [
        ("spec.subject.userRef.name=ana", &["ana"][..]),
        ("spec.counter=accesses", &["ana", "github"]),
        (
            "spec.counter=accesses,spec.subject.userRef.name=",
            &["github"],
        ),
    ] {
        let list = ListParams::default().fields(selector);
        let list = quotas.list(&list).await.unwrap();
        let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, found, "{selector}");
    }
}

#[tokio::test]
async fn kubectl_explains_what_the_fields_mean() {
    let cluster = Cluster::new().await;
    for (field, meaning) in [
        ("", "TokenQuota limits how often tokens are read"),
        (".spec", "making the object anew does not reset it"),
        (".spec.subject", "exactly one of the fields"),
        (
            ".spec.subject.each",
            "for those who have a quota of their own",
        ),
        (".spec.counter", "accesses are reads of tokens"),
        (".spec.limit", "0 allows none"),
        (
            ".spec.window.period",
            "windows of 24h begin at midnight UTC",
        ),
        (".spec.enforcement", "Warn allows and counts it"),
        (
            ".status.used",
            "the limit holds exactly, this number follows",
        ),
        (".status.windowEndTime", "Absent for a lifetime"),
        (
            ".status.enforcedFromTime",
            "From then on the limit holds exactly",
        ),
    ] {
        let path = format!("tokenquotas{field}");
        let explained = kubectl(&cluster, &["explain", &path]).await;
        let words: Vec<&str> = explained.split_whitespace().collect();
        let explained = words.join(" ");
        assert!(explained.contains(meaning), "{path}: {explained}");
    }
}
