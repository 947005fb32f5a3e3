//! What the API server admits as a TokenQuota, which changes of it, and of whom.

use bursar_crds::{Enforcement, TokenQuota};
use bursar_testbed::until;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{Cluster, LIMIT, PAUSE, api, message};

const SUBJECTS: [&str; 4] = [
    "userRef: {name: ana}",
    "tokenRef: {name: github}",
    "serviceAccountName: app",
    "each: User",
];
const LIFETIME: &str = "window: {type: Lifetime}";

/// A lifetime's quota of 10 accesses.
fn accesses(name: &str, subject: &str) -> String {
    with_spec(
        name,
        &format!("subject: {{{subject}}}, counter: accesses, limit: 10, {LIFETIME}"),
    )
}

/// A quota of ana's; `fields` are the rest of its spec.
fn of_ana(fields: &str) -> String {
    with_spec(
        "ana",
        &format!("subject: {{userRef: {{name: ana}}}}, {fields}"),
    )
}

fn with_counter(counter: &str) -> String {
    of_ana(&format!("counter: '{counter}', limit: 10, {LIFETIME}"))
}

fn with_limit(limit: &str) -> String {
    of_ana(&format!("counter: accesses, limit: {limit}, {LIFETIME}"))
}

fn with_spec(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: TokenQuota, metadata: {{name: '{name}'}}, spec: {{{spec}}}}}"
    )
}

/// The refusal names the field and says the sentence.
async fn assert_refused(cluster: &Cluster, yaml: &str, field: &str, sentence: &str) {
    let message = cluster.apply(yaml).await.unwrap_err();
    assert!(message.contains(&format!("{field}: ")), "{yaml}: {message}");
    assert!(message.contains(sentence), "{yaml}: {message}");
}

#[tokio::test]
async fn exactly_one_subject_is_admitted() {
    let cluster = Cluster::new().await;
    let sentence = "subject must have exactly one of userRef, tokenRef, serviceAccountName and each \
                    (each: User is a default for every user).";
    assert_refused(&cluster, &accesses("none", ""), "spec.subject", sentence).await;
    assert_refused(
        &cluster,
        &accesses("all", &SUBJECTS.join(", ")),
        "spec.subject",
        sentence,
    )
    .await;
    for (i, first) in SUBJECTS.iter().enumerate() {
        for second in &SUBJECTS[i + 1..] {
            let two = accesses("two", &format!("{first}, {second}"));
            assert_refused(&cluster, &two, "spec.subject", sentence).await;
        }
    }
    for (name, subject) in ["a", "b", "c", "d"].into_iter().zip(SUBJECTS) {
        cluster.apply(&accesses(name, subject)).await.unwrap();
    }
}

#[tokio::test]
async fn a_null_subject_is_no_subject() {
    let cluster = Cluster::new().await;
    let create = async |subject: &str| {
        let object = cluster.object(&accesses("q", subject));
        let quotas = api(&cluster.client, &object);
        let created = quotas.create(&PostParams::default(), &object).await;
        created.map_err(message)
    };
    let refused = create("userRef: null, each: null").await.unwrap_err();
    assert!(refused.contains("exactly one of"), "{refused}");
    let created = create("userRef: null, each: User").await.unwrap();
    assert_eq!(created.data["spec"]["subject"], json!({ "each": "User" }));
}

#[tokio::test]
async fn subject_counter_limit_and_window_are_required_and_enforced_unless_told_otherwise() {
    let cluster = Cluster::new().await;
    for (spec, field) in [
        (
            format!("counter: accesses, limit: 1, {LIFETIME}"),
            "subject",
        ),
        (
            format!("subject: {{each: User}}, limit: 1, {LIFETIME}"),
            "counter",
        ),
        (
            format!("subject: {{each: User}}, counter: accesses, {LIFETIME}"),
            "limit",
        ),
        (
            "subject: {each: User}, counter: accesses, limit: 1".to_owned(),
            "window",
        ),
    ] {
        let field = format!("spec.{field}");
        assert_refused(&cluster, &with_spec("q", &spec), &field, "Required value").await;
    }
    cluster.apply(&accesses("q", "each: User")).await.unwrap();
    let quotas = Api::<TokenQuota>::namespaced(cluster.client.clone(), &cluster.namespace);
    let spec = quotas.get("q").await.unwrap().spec;
    assert_eq!(spec.subject.to_string(), "each user");
    assert_eq!(spec.limit, 10);
    assert_eq!(spec.window.seconds(), Ok(None));
    assert_eq!(spec.enforcement, Enforcement::Enforce);
}

#[tokio::test]
async fn a_token_is_limited_in_accesses_only() {
    let cluster = Cluster::new().await;
    let uploads = |subject: &str| {
        let spec = format!("subject: {{{subject}}}, counter: filesUploaded, limit: 10, {LIFETIME}");
        with_spec("uploads", &spec)
    };
    assert_refused(
        &cluster,
        &uploads("tokenRef: {name: github}"),
        "spec.counter",
        "counter must be accesses for a tokenRef: applications count \
         for a user or a service account, not for a token.",
    )
    .await;
    cluster.apply(&uploads("each: User")).await.unwrap();
}

#[tokio::test]
async fn a_counter_is_a_word_in_camel_case() {
    let cluster = Cluster::new().await;
    let sentence = "A counter has letters and digits and begins with a lower case letter: accesses, \
                    or a name of your own, for example filesUploaded.";
    for bad in [
        "",
        "Files",
        "files-uploaded",
        "files_uploaded",
        "files uploaded",
        "files.uploaded",
        "1file",
        "größe",
        "files/x",
    ] {
        assert_refused(&cluster, &with_counter(bad), "spec.counter", sentence).await;
    }
    let too_long = with_counter(&"a".repeat(64));
    assert_refused(&cluster, &too_long, "spec.counter", "Too long").await;
    // A counter cannot be changed, so each needs an object of its own.
    for (name, good) in [
        ("a", "a".repeat(63)),
        ("b", "a".into()),
        ("c", "mb2Sent".into()),
    ] {
        let spec = format!("subject: {{each: User}}, counter: {good}, limit: 10, {LIFETIME}");
        cluster.apply(&with_spec(name, &spec)).await.unwrap();
    }
}

#[tokio::test]
async fn a_limit_is_a_whole_number_up_to_a_million_million() {
    let cluster = Cluster::new().await;
    for (bad, sentence) in [
        ("-1", "should be greater than or equal to 0"),
        (
            "1000000000001",
            "should be less than or equal to 1000000000000",
        ),
        ("1.5", "must be of type integer"),
        ("'10'", "expected numeric"),
        ("null", "must be of type integer"),
    ] {
        assert_refused(&cluster, &with_limit(bad), "spec.limit", sentence).await;
    }
    for good in ["0", "1000000000000"] {
        let quota = cluster.apply(&with_limit(good)).await.unwrap();
        assert_eq!(quota.data["spec"]["limit"].to_string(), good);
    }
}

#[tokio::test]
async fn what_use_belongs_to_cannot_be_changed() {
    let cluster = Cluster::new().await;
    let quota = |subject: &str, counter: &str, window: &str| {
        let spec =
            format!("subject: {{{subject}}}, counter: {counter}, limit: 10, window: {{{window}}}");
        with_spec("q", &spec)
    };
    let (ana, day) = ("userRef: {name: ana}", "type: Period, period: 24h");
    cluster.apply(&quota(ana, "accesses", day)).await.unwrap();
    for (changed, field) in [
        (quota("userRef: {name: bo}", "accesses", day), "subject"),
        (quota("serviceAccountName: ana", "accesses", day), "subject"),
        (quota("each: User", "accesses", day), "subject"),
        (quota(ana, "filesUploaded", day), "counter"),
        (
            quota(ana, "accesses", "type: Period, period: 12h"),
            "window",
        ),
        (quota(ana, "accesses", "type: Lifetime"), "window"),
    ] {
        let sentence = format!(
            "{field} cannot be changed, because what was used belongs to it: make a new TokenQuota"
        );
        let field = format!("spec.{field}");
        assert_refused(&cluster, &changed, &field, &sentence).await;
    }
}

#[tokio::test]
async fn limit_and_enforcement_may_change() {
    let cluster = Cluster::new().await;
    for (limit, enforcement) in [
        (10, "Enforce"),
        (0, "Enforce"),
        (5, "Warn"),
        (20, "Enforce"),
    ] {
        let fields =
            format!("counter: accesses, limit: {limit}, enforcement: {enforcement}, {LIFETIME}");
        let quota = cluster.apply(&of_ana(&fields)).await.unwrap();
        assert_eq!(quota.data["spec"]["limit"], limit);
        assert_eq!(quota.data["spec"]["enforcement"], enforcement);
    }
}

#[tokio::test]
async fn what_the_api_does_not_know_is_refused() {
    let cluster = Cluster::new().await;
    let good = format!("counter: accesses, limit: 10, {LIFETIME}");
    for (yaml, field) in [
        (of_ana(&format!("{good}, burst: 5")), ".spec.burst"),
        (
            accesses("q", "each: User, role: Chief"),
            ".spec.subject.role",
        ),
        (
            accesses("q", "userRef: {name: ana, namespace: other}"),
            ".spec.subject.userRef.namespace",
        ),
        (
            of_ana("counter: accesses, limit: 10, window: {type: Lifetime, timeZone: UTC}"),
            ".spec.window.timeZone",
        ),
    ] {
        assert_refused(&cluster, &yaml, field, "field not declared in schema").await;
    }
    let log = of_ana(&format!("{good}, enforcement: Log"));
    assert_refused(&cluster, &log, "spec.enforcement", "\"Enforce\", \"Warn\"").await;
    let each = accesses("q", "each: Token");
    assert_refused(&cluster, &each, "spec.subject.each", "\"User\"").await;
    let nameless = accesses("q", "tokenRef: {}");
    let name = "spec.subject.tokenRef.name";
    assert_refused(&cluster, &nameless, name, "Required value").await;
}

#[tokio::test]
async fn a_slip_in_a_name_is_answered_with_what_is_allowed() {
    let cluster = Cluster::new().await;
    for (subject, field, kind, example) in [
        ("userRef: {name: Ana}", "userRef.name", "TokenUser", "ana"),
        (
            "tokenRef: {name: git_hub}",
            "tokenRef.name",
            "StoredToken",
            "github",
        ),
        (
            "serviceAccountName: app-",
            "serviceAccountName",
            "ServiceAccount",
            "app",
        ),
    ] {
        let sentence = format!(
            "The name of a {kind} may have lower case letters, digits, '-' and '.', and begins and \
             ends with a letter or digit, for example {example}."
        );
        let field = format!("spec.subject.{field}");
        assert_refused(&cluster, &accesses("q", subject), &field, &sentence).await;
    }
}

#[tokio::test]
async fn an_editor_may_write_quotas_and_a_viewer_only_read_them() {
    let cluster = Cluster::new().await;
    cluster.allow("ed", &["bursar-edit"], "[]").await;
    cluster.allow("vi", &["bursar-view"], "[]").await;
    let editor = cluster.as_user("ed", &[]).await;
    editor.allowed(&with_limit("10")).await;
    editor.allowed(&with_limit("20")).await;
    let viewer = cluster.as_user("vi", &[]).await;
    let quotas = Api::<TokenQuota>::namespaced(viewer.client.clone(), &viewer.namespace);
    let read = until(LIMIT, PAUSE, async || quotas.get("ana").await.ok()).await;
    assert_eq!(read.unwrap().spec.limit, 20);
    let message = viewer.apply(&with_limit("30")).await.unwrap_err();
    assert!(message.contains("cannot patch resource"), "{message}");
}
