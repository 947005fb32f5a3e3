//! A database that went back in time.

use bursar_vault::{Category, Serving, Source, VaultError};

use crate::fixture::{Fixture, token, version};

#[tokio::test]
async fn an_older_row_put_back_is_noticed_and_nothing_is_served() {
    let (fixture, tenant, mut spec) = Fixture::with_token("rollback").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture
        .tamper("create table old_token as table token")
        .await;
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    fixture.tamper("delete from token").await;
    fixture.tamper("insert into token table old_token").await;

    for _ in 0..2 {
        let error = fixture.apply(&tenant, &spec, "two").await.unwrap_err();
        assert!(
            matches!(error, VaultError::RowRolledBack { token, stored: 1, known: 2 } if token == spec.id),
            "{error}"
        );
        assert_eq!(error.category(), Category::Refused);
    }
    let live = "select count(*) from token_version where state = 'Live'";
    assert_eq!(fixture.count(live).await, 0);

    spec.through_version = Some(version(2));
    let state = fixture.apply(&tenant, &spec, "three").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(3)), Serving::Serving)
    );
}

#[tokio::test]
async fn a_token_that_went_back_before_its_first_version_is_written_once() {
    let (fixture, tenant, spec) = Fixture::with_token("rollback_first").await;
    fixture
        .controllers
        .apply_token(&tenant, &spec, Source::Unavailable)
        .await
        .unwrap();
    fixture
        .tamper("create table old_token as table token")
        .await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.tamper("delete from token").await;
    fixture.tamper("insert into token table old_token").await;

    fixture.apply(&tenant, &spec, "one").await.unwrap_err();
    let live = "select count(*) from token_version where state = 'Live'";
    assert_eq!(fixture.count(live).await, 0);
    let before = fixture.everything().await;
    let error = fixture.apply(&tenant, &spec, "one").await.unwrap_err();
    assert!(
        matches!(
            error,
            VaultError::RowRolledBack {
                stored: 0,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        before,
        fixture.everything().await,
        "the second time wrote something"
    );
}

#[tokio::test]
async fn versions_that_only_the_status_knows_are_missed() {
    let fixture = Fixture::new("rollback_all").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let mut spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    spec.known_version = Some(version(1));
    assert_eq!(
        fixture.apply(&tenant, &spec, "one").await.unwrap().serving,
        Serving::Serving
    );

    spec.known_version = Some(version(5));
    let error = fixture.apply(&tenant, &spec, "one").await.unwrap_err();
    assert!(
        matches!(
            error,
            VaultError::RowRolledBack {
                stored: 1,
                known: 5,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("throughVersion to 5"), "{error}");
    let before = fixture.everything().await;
    fixture.apply(&tenant, &spec, "one").await.unwrap_err();
    assert_eq!(
        before,
        fixture.everything().await,
        "the second time wrote something"
    );

    // A token that is not there at all.
    let mut lost = token("lost", &ana);
    lost.known_version = Some(version(2));
    let error = fixture.apply(&tenant, &lost, "x").await.unwrap_err();
    assert!(
        matches!(
            error,
            VaultError::RowRolledBack {
                stored: 0,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    lost.through_version = Some(version(2));
    let state = fixture.apply(&tenant, &lost, "x").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(3)), Serving::Serving)
    );
}
