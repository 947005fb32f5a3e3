//! A revoked value is served nowhere in the tenant, also where it was stored
//! before it was revoked.

use bursar_seal::TokenId;
use bursar_vault::{Change, RefusedValue, Serving, Source, TokenSpec};

use crate::fixture::{Fixture, token, version};

fn reused(token: &TokenSpec, number: u32) -> Option<RefusedValue> {
    Some(RefusedValue::RevokedValueReused {
        token: token.id,
        version: version(number),
    })
}

/// Versions that are live though their value is revoked.
async fn live_and_revoked(fixture: &Fixture) -> i64 {
    let both = "select count(*) from token_version
                join revoked_value using (tenant_id, secret_version, fingerprint)
                where state = 'Live'";
    fixture.count(both).await
}

async fn epoch(fixture: &Fixture, token: TokenId) -> i64 {
    let epoch = format!("select epoch from token where token_id = '{token}'");
    fixture.count(&epoch).await
}

#[tokio::test]
async fn a_newer_version_with_the_revoked_value_is_dead_too() {
    let (fixture, tenant, mut spec) = Fixture::with_token("newer_same").await;
    for value in ["x", "y", "x"] {
        fixture.apply(&tenant, &spec, value).await.unwrap();
    }
    let head = fixture.head(&tenant).await;
    let before = epoch(&fixture, spec.id).await;

    spec.through_version = Some(version(1));
    let state = fixture.apply(&tenant, &spec, "x").await.unwrap();
    assert_eq!(state.newest_version, Some(version(3)));
    assert_eq!(
        (state.serving, state.refused),
        (Serving::NoVersion, reused(&spec, 1))
    );
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(epoch(&fixture, spec.id).await, before + 1);
    assert_eq!(live_and_revoked(&fixture).await, 0);

    let everything = fixture.everything().await;
    let state = fixture.apply(&tenant, &spec, "x").await.unwrap();
    assert_eq!(
        (state.serving, state.refused),
        (Serving::NoVersion, reused(&spec, 1))
    );
    assert_eq!(
        everything,
        fixture.everything().await,
        "the second time wrote something"
    );
    // The one in between was not revoked, and may come back as a new one.
    let state = fixture.apply(&tenant, &spec, "y").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(4)), Serving::Serving)
    );
}

#[tokio::test]
async fn an_older_version_with_the_revoked_value_is_dead_and_the_newest_is_served() {
    let (fixture, tenant, mut spec) = Fixture::with_token("between_same").await;
    for value in ["x", "y", "x", "z"] {
        fixture.apply(&tenant, &spec, value).await.unwrap();
    }
    spec.through_version = Some(version(1));
    let state = fixture.apply(&tenant, &spec, "z").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving, state.refused),
        (Some(version(4)), Serving::Serving, None)
    );
    let dead = "select array_to_string(array_agg(version order by version), '')::bigint
                from token_version where state = 'Dead'";
    assert_eq!(fixture.count(dead).await, 13);
}

#[tokio::test]
async fn another_token_with_the_revoked_value_is_dead_and_recalled_with_it() {
    let fixture = Fixture::new("other_same").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let bo = fixture.user(&tenant, "bo").await;
    let (mut leaked, same) = (token("github", &ana), token("bo-github", &bo));
    let different = token("slack", &bo);
    fixture.apply(&tenant, &leaked, "x").await.unwrap();
    fixture.apply(&tenant, &same, "x").await.unwrap();
    fixture.apply(&tenant, &different, "y").await.unwrap();
    let elsewhere = fixture.tenant("elsewhere").await;
    let cy = fixture.user(&elsewhere, "cy").await;
    let theirs = token("github", &cy);
    fixture.apply(&elsewhere, &theirs, "x").await.unwrap();
    let head = fixture.head(&tenant).await;
    let before = epoch(&fixture, same.id).await;

    leaked.through_version = Some(version(1));
    let revoke = || {
        fixture
            .controllers
            .apply_token(&tenant, &leaked, Source::Unavailable)
    };
    assert!(revoke().await.unwrap().ended_elsewhere);
    assert!(!revoke().await.unwrap().ended_elsewhere, "the second time");
    // At once: before anybody reconciles the other token.
    assert_eq!(live_and_revoked(&fixture).await, 0);
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(same.id), Change::Recall(leaked.id)]
    );
    assert_eq!(epoch(&fixture, same.id).await, before + 1);

    let state = fixture.apply(&tenant, &same, "x").await.unwrap();
    assert_eq!(
        (state.serving, state.refused),
        (Serving::NoVersion, reused(&leaked, 1))
    );
    assert!(state.damaged.is_empty());
    let state = fixture.apply(&tenant, &different, "y").await.unwrap();
    assert_eq!((state.serving, state.refused), (Serving::Serving, None));
    let state = fixture.apply(&elsewhere, &theirs, "x").await.unwrap();
    assert_eq!((state.serving, state.refused), (Serving::Serving, None));

    let state = fixture.apply(&tenant, &same, "fresh").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(2)), Serving::Serving)
    );
}

#[tokio::test]
async fn a_live_version_of_a_revoked_value_is_ended_when_it_is_met() {
    let fixture = Fixture::new("met").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let (mut leaked, same) = (token("github", &ana), token("ana-github", &ana));
    fixture.apply(&tenant, &leaked, "x").await.unwrap();
    fixture.apply(&tenant, &same, "x").await.unwrap();
    let mine = format!("token_id = '{}'", same.id);
    fixture
        .tamper(&format!(
            "create table old as select * from token_version where {mine}"
        ))
        .await;
    leaked.through_version = Some(version(1));
    fixture.apply(&tenant, &leaked, "x").await.unwrap();
    // The row from before is put back: authentic, and live.
    fixture
        .tamper(&format!("delete from token_version where {mine}"))
        .await;
    fixture.tamper("insert into token_version table old").await;
    assert_eq!(live_and_revoked(&fixture).await, 1);

    let head = fixture.head(&tenant).await;
    let state = fixture
        .controllers
        .apply_token(&tenant, &same, Source::Unavailable)
        .await
        .unwrap();
    assert_eq!(state.serving, Serving::NoVersion);
    assert_eq!(live_and_revoked(&fixture).await, 0);
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(same.id)]
    );
}

#[tokio::test]
async fn two_tokens_revoked_and_stored_at_once_never_serve_the_revoked_value() {
    let fixture = Fixture::new("at_once").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    for revoked_first in [true, false] {
        let leaked = format!("leaked {revoked_first}");
        let mut old = token(&format!("old-{revoked_first}"), &ana);
        fixture.apply(&tenant, &old, &leaked).await.unwrap();
        old.through_version = Some(version(1));
        let new = token(&format!("new-{revoked_first}"), &ana);

        // Both have read that nothing is revoked; then one writes after the other.
        let gate = fixture.hold_writes(&tenant).await;
        let behind = async |is_second: bool| {
            if is_second {
                fixture.until_waiting(1).await;
            }
        };
        let (revoked, stored, ()) = tokio::join!(
            async {
                behind(!revoked_first).await;
                fixture.apply(&tenant, &old, &leaked).await
            },
            async {
                behind(revoked_first).await;
                fixture.apply(&tenant, &new, &leaked).await
            },
            async {
                fixture.until_waiting(2).await;
                gate.commit().await.unwrap();
            },
        );
        assert_eq!(revoked.unwrap().serving, Serving::RevokedBySpec);
        let stored = stored.unwrap();
        if revoked_first {
            assert_eq!(
                (stored.serving, stored.refused),
                (Serving::NoVersion, reused(&old, 1))
            );
        } else {
            assert!(stored.stored_new_version, "it was stored before");
        }
        assert_eq!(live_and_revoked(&fixture).await, 0);
        let state = fixture.apply(&tenant, &new, &leaked).await.unwrap();
        assert_eq!(
            (state.serving, state.refused),
            (Serving::NoVersion, reused(&old, 1))
        );
    }
}
