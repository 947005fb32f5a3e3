//! Revoking beside the spec.

use bursar_vault::{Change, RefusedValue, RevokeError, Serving, Source, VaultError};

use super::{github, of_outcome};
use crate::fixture::{Fixture, token, version};

#[tokio::test]
async fn a_token_revoked_by_a_person_stays_so_whatever_its_spec_says() {
    let (fixture, tenant, spec) = Fixture::with_token("by_api").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    let head = fixture.head(&tenant).await;
    let epoch = fixture.count("select epoch from token").await;

    let revoked = fixture.revoke(&tenant, None).await.unwrap();
    assert_eq!(
        (
            revoked.through_version,
            revoked.newest_version,
            revoked.is_new
        ),
        (version(2), version(2), true)
    );
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(fixture.count("select epoch from token").await, epoch + 1);
    let live = "select count(*) from token_version where state = 'Live'";
    assert_eq!(fixture.count(live).await, 0);

    // The spec never said so, and says something else now.
    let mut spec = spec;
    spec.consumers = Some(Vec::new());
    for source in ["two", "one"] {
        let state = fixture.apply(&tenant, &spec, source).await.unwrap();
        assert_eq!(state.serving, Serving::RevokedByAPI);
        assert_eq!(state.through_version, None);
        assert_eq!(state.api_through_version, Some(version(2)));
        let reused = matches!(state.refused, Some(RefusedValue::RevokedValueReused { .. }));
        assert!(reused, "{:?}", state.refused);
    }
    let state = fixture.apply(&tenant, &spec, "three").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(3)), Serving::Serving)
    );
}

#[tokio::test]
async fn the_stricter_of_spec_and_person_holds() {
    let (fixture, tenant, mut spec) = Fixture::with_token("stricter").await;
    for value in ["one", "two", "three"] {
        fixture.apply(&tenant, &spec, value).await.unwrap();
    }
    let revoked = fixture.revoke(&tenant, Some(1)).await.unwrap();
    assert_eq!(revoked.through_version, version(1));
    spec.through_version = Some(version(2));
    let unavailable = Source::Unavailable;
    let state = fixture
        .controllers
        .apply_token(&tenant, &spec, unavailable)
        .await
        .unwrap();
    assert_eq!(state.serving, Serving::Serving);
    // Less than the spec says already: nothing is written but that somebody asked.
    let epoch = fixture.count("select epoch from token").await;
    let revoked = fixture.revoke(&tenant, Some(1)).await.unwrap();
    assert_eq!(
        (revoked.through_version, revoked.is_new),
        (version(2), false)
    );
    assert_eq!(fixture.count("select epoch from token").await, epoch);
    // It was revoked when it died, not when somebody asked again.
    let died = fixture
        .count("select (extract(epoch from max(dead_time)) * 1000000)::bigint from token_version")
        .await;
    let revoked_time = revoked.time.timestamp().unwrap();
    assert_eq!(revoked_time.as_microsecond(), died);
    let asked = fixture.audit(&tenant, of_outcome("Revoked")).await;
    assert_eq!(asked.records.len(), 2);
    fixture.revoke(&tenant, None).await.unwrap();
    let state = fixture.apply(&tenant, &spec, "three").await.unwrap();
    assert_eq!(state.serving, Serving::RevokedByAPI);
}

#[tokio::test]
async fn a_version_that_is_not_there_cannot_be_revoked_by_a_person() {
    let fixture = Fixture::new("no_version").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let absent = fixture.revoke(&tenant, None).await;
    assert!(matches!(absent, Err(RevokeError::NotFound(_))));
    let spec = token("github", &ana);
    fixture
        .controllers
        .apply_token(&tenant, &spec, Source::Unavailable)
        .await
        .unwrap();
    let empty = fixture.revoke(&tenant, None).await;
    assert!(matches!(empty, Err(RevokeError::NoVersion(_))));
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    let beyond = fixture.revoke(&tenant, Some(2)).await;
    assert!(matches!(beyond, Err(RevokeError::NoSuchVersion { .. })));
    let state = fixture.apply(&tenant, &spec, "one").await.unwrap();
    assert_eq!(state.serving, Serving::Serving);
    assert_eq!(fixture.count("select count(*) from access_record").await, 0);
}

#[tokio::test]
async fn the_newest_version_that_a_person_is_told_of_is_the_vaults_own() {
    let fixture = Fixture::new("newest_told").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    let told = fixture.vault.drain_of(&tenant, &github()).await.unwrap();
    assert_eq!((told.0, told.1.through_version), (version(2), None));
    // Otherwise who revokes what there is would leave the newest alive.
    fixture.tamper("update token set newest_version = 1").await;
    let told = fixture.vault.drain_of(&tenant, &github()).await;
    assert!(matches!(
        told,
        Err(RevokeError::Vault(VaultError::Integrity(_)))
    ));
}

#[tokio::test]
async fn a_revoked_value_ends_on_other_tokens_of_the_tenant_too() {
    let fixture = Fixture::new("elsewhere").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let (spec, other) = (token("github", &ana), token("copy", &ana));
    fixture.apply(&tenant, &spec, "leaked").await.unwrap();
    fixture.apply(&tenant, &other, "leaked").await.unwrap();
    let head = fixture.head(&tenant).await;
    fixture.revoke(&tenant, None).await.unwrap();
    let mut changes = fixture.changes(&tenant, head).await;
    changes.sort_by_key(|change| *change == Change::Recall(spec.id));
    assert_eq!(changes, [Change::Recall(other.id), Change::Recall(spec.id)]);
    let state = fixture.apply(&tenant, &other, "leaked").await.unwrap();
    assert_eq!(state.serving, Serving::NoVersion);
}
