use bursar_crds::reasons::ReadyReason;
use bursar_crds::{
    DeletionPolicy, Generate, GenerateFormat, Revocation, SecretKeyRef, Source, StoredToken,
    StoredTokenSpec, StoredTokenStatus, UserRef,
};
use bursar_vault::rows;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use super::{SourceValue, Valid, validate};
use crate::object::{Said, not_onboarded};
use crate::secrets::SourceSecret;
use crate::token::dereference::{Found, FoundSource, FoundUser};

const PLANTED: &str = "planted-value";

fn token(source: Source) -> StoredToken {
    let spec = StoredTokenSpec {
        user_ref: UserRef { name: "ana".into() },
        provider: "github".into(),
        source,
        expiration_time: None,
        consumers: None,
        revocation: None,
        deletion_policy: DeletionPolicy::Retain,
    };
    StoredToken::new("github", spec)
}

fn from_secret() -> StoredToken {
    let key = SecretKeyRef {
        name: "tokens".into(),
        key: "github".into(),
    };
    token(Source {
        secret_key_ref: Some(key),
        generate: None,
    })
}

fn generated(length: i64) -> StoredToken {
    let generate = Generate {
        format: GenerateFormat::Hex,
        length,
        prefix: None,
    };
    token(Source {
        secret_key_ref: None,
        generate: Some(generate),
    })
}

fn secret(type_: &str, data: Value) -> FoundSource {
    let secret: SourceSecret = serde_json::from_value(json!({
        "metadata": { "name": "tokens", "namespace": "team" },
        "type": type_,
        "data": data,
    }))
    .unwrap();
    FoundSource::Secret(Arc::new(secret))
}

/// `data` with the key that the token names.
fn value(bytes: &[u8]) -> Value {
    use base64::Engine;
    json!({ "github": base64::engine::general_purpose::STANDARD.encode(bytes) })
}

fn found(source: FoundSource) -> Found {
    Found {
        user: Some(FoundUser {
            uid: Uuid::max(),
            workloads: Some(vec!["app".to_owned()]),
        }),
        source,
    }
}

fn valid(token: &StoredToken, source: FoundSource) -> Valid {
    validate(token, Uuid::nil(), found(source))
        .ok()
        .flatten()
        .unwrap()
}

fn problem(token: &StoredToken, source: FoundSource) -> Said<ReadyReason> {
    match valid(token, source).source {
        SourceValue::Unavailable(problem) => problem,
        _ => panic!("the source is good"),
    }
}

#[test]
fn a_labelled_secret_of_an_allowed_type_gives_its_value() {
    for type_ in ["Opaque", "kubernetes.io/basic-auth"] {
        let valid = valid(&from_secret(), secret(type_, value(PLANTED.as_bytes())));
        match valid.source {
            SourceValue::Value(value) => assert_eq!(value.expose(), PLANTED.as_bytes()),
            _ => panic!("{type_} gives a value"),
        }
    }
}

#[test]
fn whitespace_behind_a_value_is_seen_and_stays() {
    for (bytes, ends) in [
        ("planted-value\n", true),
        ("planted-value\r\n", true),
        ("planted-value ", true),
        ("\t", true),
        ("planted-value", false),
        (" planted\nvalue", false),
    ] {
        let valid = valid(&from_secret(), secret("Opaque", value(bytes.as_bytes())));
        assert_eq!(valid.source.ends_in_whitespace(), ends, "{bytes:?}");
        match valid.source {
            SourceValue::Value(value) => assert_eq!(value.expose(), bytes.as_bytes()),
            _ => panic!("{bytes:?} is a value"),
        }
    }
}

#[test]
fn every_bad_source_has_its_reason_and_a_sentence_that_names_the_secret() {
    let long = vec![b'x'; 32_769];
    let cases = [
        (FoundSource::Absent, ReadyReason::SourceNotFound),
        (FoundSource::Unlabelled, ReadyReason::SourceNotLabelled),
        (
            secret("kubernetes.io/tls", value(PLANTED.as_bytes())),
            ReadyReason::SourceTypeNotAllowed,
        ),
        (
            secret("Opaque", json!({ "other": "" })),
            ReadyReason::SourceKeyNotFound,
        ),
        (secret("Opaque", value(b"")), ReadyReason::SourceEmpty),
        (secret("Opaque", value(&long)), ReadyReason::SourceTooLarge),
        (
            secret("Opaque", value(b"planted-value\xff")),
            ReadyReason::SourceNotText,
        ),
    ];
    for (source, reason) in cases {
        let problem = problem(&from_secret(), source);
        assert_eq!(problem.reason, reason);
        assert!(
            problem.message.contains("Secret tokens"),
            "{}",
            problem.message
        );
        assert!(!problem.message.contains(PLANTED), "{}", problem.message);
    }
}

#[test]
fn a_namespace_that_is_not_onboarded_gives_no_value_of_any_kind() {
    for token in [from_secret(), generated(32)] {
        let why = not_onboarded("team", Duration::from_secs(30));
        let problem = problem(&token, FoundSource::NotOnboarded(why));
        assert_eq!(problem.reason, ReadyReason::NamespaceNotOnboarded);
    }
}

#[test]
fn a_secret_that_is_about_to_arrive_is_waited_for() {
    let waits = validate(&from_secret(), Uuid::nil(), found(FoundSource::Arriving));
    assert!(matches!(waits, Ok(None)));
}

#[test]
fn a_missing_user_is_refused_by_name_whatever_the_source() {
    let nobody = Found {
        user: None,
        source: FoundSource::Generated,
    };
    let verdict = validate(&generated(32), Uuid::nil(), nobody).err().unwrap();
    assert_eq!(verdict.ready.reason, ReadyReason::UserNotFound);
    assert!(verdict.ready.message.contains("ana"));
}

#[test]
fn a_revocation_counts_even_when_the_source_is_missing() {
    let mut token = from_secret();
    token.spec.revocation = Some(Revocation { through_version: 3 });
    token.spec.deletion_policy = DeletionPolicy::Shred;
    token.status = Some(StoredTokenStatus {
        version: Some(5),
        ..Default::default()
    });
    let valid = valid(&token, FoundSource::Absent);
    assert_eq!(valid.spec.through_version.unwrap().get(), 3);
    assert_eq!(valid.spec.known_version.unwrap().get(), 5);
    assert_eq!(valid.spec.deletion_policy, rows::DeletionPolicy::Shred);
}

#[test]
fn consumers_are_narrowed_as_written() {
    let mut token = generated(32);
    assert!(
        valid(&token, FoundSource::Generated)
            .spec
            .consumers
            .is_none()
    );
    token.spec.consumers = Some(vec![bursar_crds::Consumer {
        service_account_name: "app".into(),
        purposes: Some(vec!["deploy".into()]),
    }]);
    let consumers = valid(&token, FoundSource::Generated)
        .spec
        .consumers
        .unwrap();
    assert_eq!(consumers[0].service_account_name.as_str(), "app");
    assert_eq!(
        consumers[0].purposes.as_ref().unwrap()[0].as_str(),
        "deploy"
    );
}

#[test]
fn a_generated_value_with_too_few_bits_is_refused() {
    assert!(matches!(
        valid(&generated(32), FoundSource::Generated).source,
        SourceValue::Generate(_)
    ));
    let short = problem(&generated(31), FoundSource::Generated);
    assert_eq!(short.reason, ReadyReason::Undecodable);
}
