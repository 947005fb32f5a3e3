//! What a thief of the database finds.

use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Format, GenerateSpec, Source};

use crate::fixture::{Fixture, token, version};

#[tokio::test]
async fn no_value_is_in_the_database_in_any_form() {
    let fixture = Fixture::new("leaks").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let planted: Vec<String> = (0..6)
        .map(|n| format!("planted-value-number-{n}"))
        .collect();

    let mut served = token("served", &ana);
    fixture.apply(&tenant, &served, &planted[0]).await.unwrap();
    fixture.apply(&tenant, &served, &planted[1]).await.unwrap();
    served.through_version = Some(version(2));
    fixture.apply(&tenant, &served, &planted[1]).await.unwrap();
    fixture.apply(&tenant, &served, &planted[2]).await.unwrap();
    for (n, policy) in [(3, DeletionPolicy::Retain), (4, DeletionPolicy::Shred)] {
        let gone = token(&format!("gone-{n}"), &ana);
        fixture.apply(&tenant, &gone, &planted[n]).await.unwrap();
        fixture
            .controllers
            .delete_token(&tenant, gone.id, Some(policy))
            .await
            .unwrap();
    }
    let generate = GenerateSpec::new(Format::Hex, 32, planted[5].clone()).unwrap();
    let made = token("made", &ana);
    fixture
        .controllers
        .apply_token(&tenant, &made, Source::Generate(&generate))
        .await
        .unwrap();

    // Every table, with binary columns as hexadecimal digits, as pg_dump has them.
    let everything = fixture.everything().await;
    assert!(
        everything.contains("served") && everything.contains(r"\x01"),
        "nothing was dumped"
    );
    for value in &planted {
        let digits = hex::encode(value);
        assert!(!everything.contains(value.as_str()), "{value} is there");
        assert!(!everything.contains(&digits), "{value} is there in binary");
    }
    // Nor the root key.
    assert!(!everything.contains(&hex::encode([1; 32])));
}

#[tokio::test]
async fn equal_values_look_different_to_whoever_reads_the_database() {
    let fixture = Fixture::new("equal").await;
    for namespace in ["one", "two"] {
        let tenant = fixture.tenant(namespace).await;
        let ana = fixture.user(&tenant, "ana").await;
        fixture
            .apply(&tenant, &token("github", &ana), "same")
            .await
            .unwrap();
    }
    for column in ["fingerprint", "ciphertext", "wrapped_key", "mac"] {
        let distinct = format!("select count(distinct {column}) from token_version");
        assert_eq!(fixture.count(&distinct).await, 2, "{column}");
    }
}
