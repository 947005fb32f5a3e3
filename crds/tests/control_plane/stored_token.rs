//! What the API server admits as a StoredToken, and which changes of it.

use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{Cluster, api, message};

const GENERATED: &str = "source: {generate: {}}";

/// A token of ana for github; `fields` are the rest of its spec.
fn token(name: &str, fields: &str) -> String {
    with_spec(
        name,
        &format!("userRef: {{name: ana}}, provider: github, {fields}"),
    )
}

fn with_spec(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: StoredToken, metadata: {{name: '{name}'}}, spec: {{{spec}}}}}"
    )
}

fn generated(fields: &str) -> String {
    token("github", &format!("{GENERATED}, {fields}"))
}

async fn assert_refused(cluster: &Cluster, yaml: &str, sentence: &str) {
    let message = cluster.apply(yaml).await.unwrap_err();
    assert!(message.contains(sentence), "{yaml}: {message}");
}

#[tokio::test]
async fn exactly_one_source_is_admitted() {
    let cluster = Cluster::new().await;
    let sentence = "source must have exactly one of secretKeyRef";
    let both = "source: {generate: {}, secretKeyRef: {name: s, key: k}}";
    assert_refused(&cluster, &token("t", both), sentence).await;
    assert_refused(&cluster, &token("t", "source: {}"), sentence).await;
    assert_refused(
        &cluster,
        &with_spec("t", "userRef: {name: ana}, provider: github"),
        "spec.source: Required value",
    )
    .await;
    cluster.apply(&token("t", GENERATED)).await.unwrap();
    let secret = "source: {secretKeyRef: {name: s, key: k}}";
    cluster.apply(&token("u", secret)).await.unwrap();
}

#[tokio::test]
async fn a_null_source_is_no_source() {
    let cluster = Cluster::new().await;
    let create = async |fields: &str| {
        let object = cluster.object(&token("github", fields));
        let tokens = api(&cluster.client, &object);
        tokens
            .create(&PostParams::default(), &object)
            .await
            .map_err(message)
    };
    let none = "source: {generate: null, secretKeyRef: null}";
    let refused = create(none).await.unwrap_err();
    assert!(refused.contains("exactly one of"), "{refused}");
    let one = "source: {generate: {}, secretKeyRef: null}";
    let created = create(one).await.unwrap();
    assert_eq!(
        created.data["spec"]["source"],
        json!({ "generate": { "format": "Base62", "length": 32 } })
    );
}

#[tokio::test]
async fn a_generated_value_has_at_least_128_bits_beside_its_prefix() {
    let cluster = Cluster::new().await;
    for weak in [
        "{format: Base62, length: 21}",
        "{format: Base62, length: 21, prefix: a-long-prefix-}",
        "{format: Hex, length: 31}",
        "{length: 0}",
    ] {
        let yaml = token("weak", &format!("source: {{generate: {weak}}}"));
        assert_refused(&cluster, &yaml, "spec.source.generate.length").await;
    }
    for (name, strong) in [
        ("a", "{format: Base62, length: 22}"),
        ("b", "{format: Hex, length: 32}"),
        ("c", "{format: Hex}"),
        ("d", "{prefix: demo_}"),
    ] {
        let yaml = token(name, &format!("source: {{generate: {strong}}}"));
        cluster.apply(&yaml).await.unwrap();
    }
}

#[tokio::test]
async fn whose_token_it_is_what_for_and_from_what_kind_of_source_cannot_be_changed() {
    let cluster = Cluster::new().await;
    cluster.apply(&token("github", GENERATED)).await.unwrap();
    for (changed, sentence) in [
        (
            "userRef: {name: bo}, provider: github, source: {generate: {}}",
            "userRef cannot be changed",
        ),
        (
            "userRef: {name: ana}, provider: slack, source: {generate: {}}",
            "provider cannot be changed",
        ),
        (
            "userRef: {name: ana}, provider: github, source: {secretKeyRef: {name: s, key: k}}",
            "source cannot change between",
        ),
        (
            "userRef: {name: ana}, provider: github, source: {generate: {length: 40}}",
            "generate cannot be changed",
        ),
        (
            "userRef: {name: ana}, provider: github, source: {generate: {prefix: x}}",
            "generate cannot be changed",
        ),
    ] {
        assert_refused(&cluster, &with_spec("github", changed), sentence).await;
    }
}

#[tokio::test]
async fn the_secret_may_be_another_one_later() {
    let cluster = Cluster::new().await;
    let from = |name: &str| {
        token(
            "github",
            &format!("source: {{secretKeyRef: {{name: {name}, key: k}}}}"),
        )
    };
    cluster.apply(&from("old")).await.unwrap();
    cluster.apply(&from("new")).await.unwrap();
    assert_refused(
        &cluster,
        &token("github", GENERATED),
        "source cannot change between",
    )
    .await;
}

#[tokio::test]
async fn a_revocation_may_only_rise() {
    let cluster = Cluster::new().await;
    let through = |version: i64| generated(&format!("revocation: {{throughVersion: {version}}}"));
    cluster.apply(&token("github", GENERATED)).await.unwrap();
    for version in [2, 2, 5] {
        cluster.apply(&through(version)).await.unwrap();
    }
    assert_refused(&cluster, &through(4), "may only rise").await;
    assert_refused(&cluster, &token("github", GENERATED), "may only rise").await;
    assert_refused(&cluster, &generated("revocation: null"), "spec.revocation").await;
    assert_refused(&cluster, &generated("revocation: {}"), "spec.revocation").await;
    cluster.apply(&through(6)).await.unwrap();
}

#[tokio::test]
async fn a_revocation_names_a_version_that_can_exist() {
    let cluster = Cluster::new().await;
    for version in ["0", "-1", "1000000001", "1.5"] {
        let yaml = generated(&format!("revocation: {{throughVersion: {version}}}"));
        assert_refused(&cluster, &yaml, "spec.revocation.throughVersion").await;
    }
}

#[tokio::test]
async fn consumers_are_at_most_sixteen_named_once_and_never_an_empty_list() {
    let cluster = Cluster::new().await;
    let consumers = |count: usize| {
        let names: Vec<String> = (0..count)
            .map(|n| format!("{{serviceAccountName: app-{n}}}"))
            .collect();
        generated(&format!("consumers: [{}]", names.join(", ")))
    };
    assert_refused(&cluster, &consumers(17), "spec.consumers: Too many").await;
    assert_refused(&cluster, &consumers(0), "leave the field out to let all").await;
    let twice = "consumers: [{serviceAccountName: app}, {serviceAccountName: app}]";
    assert_refused(&cluster, &generated(twice), "duplicate").await;
    cluster.apply(&consumers(16)).await.unwrap();
}

#[tokio::test]
async fn purposes_are_what_a_caller_can_say() {
    let cluster = Cluster::new().await;
    let purposes = |list: &str| {
        generated(&format!(
            "consumers: [{{serviceAccountName: app, purposes: [{list}]}}]"
        ))
    };
    for bad in ["''", "'-x'", "'a;b'", "'a\tb'", "'ä'", "ok, -x"] {
        assert_refused(&cluster, &purposes(bad), "for example sync-repositories").await;
    }
    let too_long = "a".repeat(65);
    assert_refused(&cluster, &purposes(&too_long), "purposes[0]: Too long").await;
    assert_refused(&cluster, &purposes(""), "leave the field out to allow any").await;
    assert_refused(&cluster, &purposes("a, a"), "duplicate").await;
    let longest = "a".repeat(64);
    let good = format!("'nightly sync', 'a._:/@-b', {longest}");
    cluster.apply(&purposes(&good)).await.unwrap();
}

#[tokio::test]
async fn the_name_is_one_that_callers_can_ask_for() {
    let cluster = Cluster::new().await;
    let sentence = "A StoredToken's name is what callers ask for";
    for name in ["a.b", "accesses", &"a".repeat(64)] {
        assert_refused(&cluster, &token(name, GENERATED), sentence).await;
    }
    cluster
        .apply(&token(&"a".repeat(63), GENERATED))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_expiration_time_is_a_time_with_its_zone_past_or_future() {
    let cluster = Cluster::new().await;
    for bad in [
        "tomorrow",
        "2027-01-31",
        "2027-01-31T00:00:00",
        "2027-02-30T00:00:00Z",
    ] {
        let yaml = generated(&format!("expirationTime: '{bad}'"));
        assert_refused(&cluster, &yaml, "spec.expirationTime").await;
    }
    for good in ["2001-01-01T00:00:00Z", "2099-01-31T12:00:00.5+02:00"] {
        let yaml = generated(&format!("expirationTime: '{good}'"));
        cluster.apply(&yaml).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_api_does_not_know_is_refused() {
    let cluster = Cluster::new().await;
    for (fields, field) in [
        ("source: {generate: {}}, alias: x", ".spec.alias"),
        ("source: {generate: {}, other: {}}", ".spec.source.other"),
        (
            "source: {generate: {format: Base64}}",
            "spec.source.generate.format",
        ),
        (
            "source: {secretKeyRef: {name: s}}",
            "spec.source.secretKeyRef.key",
        ),
        (
            "source: {generate: {}}, deletionPolicy: Keep",
            "spec.deletionPolicy",
        ),
    ] {
        assert_refused(&cluster, &token("t", fields), field).await;
    }
}

#[tokio::test]
async fn a_slip_in_a_single_string_is_answered_with_what_is_allowed_and_an_example() {
    let cluster = Cluster::new().await;
    let good = "userRef: {name: ana}, provider: github";
    for (spec, field, sentence) in [
        (
            "userRef: {name: ana}, provider: GitHub, source: {generate: {}}",
            "spec.provider",
            "A provider may have lower case letters, digits, '-' and '.', and begins and ends with \
             a letter or digit, for example github or gitlab.example.com.",
        ),
        (
            "userRef: {name: Ana}, provider: github, source: {generate: {}}",
            "spec.userRef.name",
            "The name of a TokenUser may have lower case letters",
        ),
        (
            &format!("{good}, source: {{secretKeyRef: {{name: my_secret, key: k}}}}"),
            "spec.source.secretKeyRef.name",
            "The name of a Secret may have lower case letters",
        ),
        (
            &format!("{good}, source: {{secretKeyRef: {{name: s, key: 'k/k'}}}}"),
            "spec.source.secretKeyRef.key",
            "A key of a Secret may have letters, digits, '-', '_' and '.', for example api-token.",
        ),
        (
            &format!("{good}, source: {{generate: {{prefix: 'a b'}}}}"),
            "spec.source.generate.prefix",
            "A prefix may have letters, digits, '.', '_' and '-', for example app_; leave the \
             field out for none.",
        ),
        (
            &format!("{good}, {GENERATED}, consumers: [{{serviceAccountName: app_1}}]"),
            "spec.consumers[0].serviceAccountName",
            "The name of a ServiceAccount may have lower case letters",
        ),
    ] {
        let message = cluster.apply(&with_spec("t", spec)).await.unwrap_err();
        assert!(message.contains(field), "{spec}: {message}");
        assert!(message.contains(sentence), "{spec}: {message}");
        assert!(!message.contains("should match"), "{spec}: {message}");
    }
}
