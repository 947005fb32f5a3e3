//! Damaged versions that are to be ended, or remembered: they are never believed
//! because of it, and what is not damaged is dealt with all the same.

use bursar_vault::rows::{DeletionPolicy, VersionRow};
use bursar_vault::{RefusedValue, Serving, Source, VaultError};
use uuid::Uuid;

use crate::fixture::{Fixture, token, version};
use crate::team::records;

/// Versions by number, with whether their MAC fits and whether they have a key.
async fn versions(fixture: &Fixture, tenant: &bursar_vault::Tenant) -> Vec<(i32, bool, bool)> {
    let rows: Vec<VersionRow> = fixture
        .tamper_returning("select * from token_version order by version")
        .await;
    rows.into_iter()
        .map(|row| {
            let (number, has_key) = (row.version, row.wrapped_key.is_some());
            (number, row.verify(tenant.keys()).is_ok(), has_key)
        })
        .collect()
}

const FALSE_FINGERPRINT: &str = "update token_version
    set fingerprint = set_byte(fingerprint, 0, get_byte(fingerprint, 0) # 1) where version = 1";

#[tokio::test]
async fn a_time_that_somebody_else_set_destroys_no_key() {
    let fixture = Fixture::new("false_shred_time").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let (used, gone) = (token("github", &ana), token("slack", &ana));
    for value in ["one", "two"] {
        fixture.apply(&tenant, &used, value).await.unwrap();
    }
    fixture.apply(&tenant, &gone, "three").await.unwrap();
    fixture
        .controllers
        .delete_token(&tenant, gone.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();
    fixture.seven_days_later(&tenant).await;
    let change = format!(
        "update token_version set shred_time = now() - interval '1 second'
         where token_id = '{}' and version = 1",
        used.id
    );
    assert_eq!(fixture.tamper(&change).await, 1);

    // What is really due is shredded, once.
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 1);
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 0);
    let without_keys = format!(
        "select count(*) from token_version where wrapped_key is null and token_id <> '{}'",
        used.id
    );
    assert_eq!(fixture.count(&without_keys).await, 1);
    let with_keys = format!(
        "select count(*) from token_version
         where wrapped_key is not null and state = 'Live' and token_id = '{}'",
        used.id
    );
    assert_eq!(fixture.count(&with_keys).await, 2);
    assert_eq!(records(&fixture).await, ["token_version"]);
    let state = fixture.apply(&tenant, &used, "two").await.unwrap();
    assert_eq!(state.serving, Serving::Serving);
}

#[tokio::test]
async fn more_damaged_versions_than_one_batch_do_not_keep_the_others_from_being_shredded() {
    let (fixture, tenant, spec) = Fixture::with_token("many_damaged").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();
    fixture.seven_days_later(&tenant).await;
    // The same row in the place of many others, due before it.
    let copies = format!(
        "insert into token_version
         select tenant_id, '{}', number, state, origin, secret_version, fingerprint, version_time,
                shred_time - interval '1 day', dead_time, key_version, wrapped_key, ciphertext, mac
         from token_version, generate_series(1, 250) as number",
        Uuid::nil()
    );
    assert_eq!(fixture.tamper(&copies).await, 250);
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 1);
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 0);
    assert_eq!(records(&fixture).await.len(), 250);
}

#[tokio::test]
async fn a_false_fingerprint_is_not_remembered_when_it_is_revoked() {
    let (fixture, tenant, mut spec) = Fixture::with_token("false_fingerprint").await;
    for value in ["one", "two", "three"] {
        fixture.apply(&tenant, &spec, value).await.unwrap();
    }
    assert_eq!(fixture.tamper(FALSE_FINGERPRINT).await, 1);

    spec.through_version = Some(version(2));
    let state = fixture.apply(&tenant, &spec, "three").await.unwrap();
    assert_eq!(state.serving, Serving::Serving);
    assert_eq!(records(&fixture).await, ["token_version"]);
    let remembered: Vec<(i32,)> = fixture
        .tamper_returning("select version from revoked_value")
        .await;
    assert_eq!(remembered, [(2,)]);
    // It is still seen that somebody changed it.
    let found = versions(&fixture, &tenant).await;
    assert_eq!(found, [(1, false, true), (2, true, true), (3, true, true)]);
    let state = fixture.apply(&tenant, &spec, "two").await.unwrap();
    let by = RefusedValue::RevokedValueReused {
        token: spec.id,
        version: version(2),
    };
    assert_eq!(state.refused, Some(by));
}

#[tokio::test]
async fn deletion_ends_damaged_versions_and_makes_none_of_them_believable() {
    let fixture = Fixture::new("delete_damaged").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let old = token("github", &ana);
    for value in ["one", "two"] {
        fixture.apply(&tenant, &old, value).await.unwrap();
    }
    assert_eq!(fixture.tamper(FALSE_FINGERPRINT).await, 1);
    let delete = |policy| {
        fixture
            .controllers
            .delete_token(&tenant, old.id, Some(policy))
    };
    for _ in 0..2 {
        delete(DeletionPolicy::Retain).await.unwrap();
        let found = versions(&fixture, &tenant).await;
        assert_eq!(found, [(1, false, true), (2, true, true)]);
        assert_eq!(records(&fixture).await, ["token_version"]);
    }
    for _ in 0..2 {
        delete(DeletionPolicy::Shred).await.unwrap();
        let found = versions(&fixture, &tenant).await;
        assert_eq!(found, [(1, false, false), (2, true, false)]);
        assert_eq!(records(&fixture).await, ["token_version"]);
    }

    // Who recreates the object and revokes means these, but not the false one.
    let mut new = token("github", &ana);
    new.through_version = Some(version(2));
    fixture.apply(&tenant, &new, "two").await.unwrap();
    let remembered: Vec<(i32,)> = fixture
        .tamper_returning("select version from revoked_value")
        .await;
    assert_eq!(remembered, [(2,)]);
}

#[tokio::test]
async fn a_damaged_version_of_a_token_that_went_back_in_time_is_met_once() {
    let (fixture, tenant, spec) = Fixture::with_token("back_and_damaged").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture
        .tamper("create table old_token as table token")
        .await;
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    fixture.tamper("delete from token").await;
    fixture.tamper("insert into token table old_token").await;
    assert_eq!(fixture.tamper(FALSE_FINGERPRINT).await, 1);

    let apply = || {
        fixture
            .controllers
            .apply_token(&tenant, &spec, Source::Unavailable)
    };
    let error = apply().await.unwrap_err();
    assert!(matches!(error, VaultError::RowRolledBack { .. }), "{error}");
    let before = fixture.everything().await;
    apply().await.unwrap_err();
    assert_eq!(
        before,
        fixture.everything().await,
        "the second time wrote something"
    );
}
