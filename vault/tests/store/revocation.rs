//! Revoking versions, and what is remembered of it.

use bursar_seal::TokenId;
use bursar_vault::{Change, Recalled, RefusedValue, Serving, Source};
use uuid::Uuid;

use crate::fixture::{Fixture, token, user, version};

#[tokio::test]
async fn every_version_up_to_through_version_is_dead_at_once() {
    let (fixture, tenant, mut spec) = Fixture::with_token("through").await;
    for value in ["one", "two", "three"] {
        fixture.apply(&tenant, &spec, value).await.unwrap();
    }
    let head = fixture.head(&tenant).await;
    let epoch = fixture.count("select epoch from token").await;

    // Without the source: revoking never waits for a Secret.
    spec.through_version = Some(version(3));
    let controllers = &fixture.controllers;
    let state = controllers
        .apply_token(&tenant, &spec, Source::Unavailable)
        .await
        .unwrap();
    assert_eq!(state.serving, Serving::RevokedBySpec);
    assert_eq!(state.newest_version, Some(version(3)));
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(fixture.count("select epoch from token").await, epoch + 1);
    let live = "select count(*) from token_version where state = 'Live'";
    assert_eq!(fixture.count(live).await, 0);

    let before = fixture.everything().await;
    controllers
        .apply_token(&tenant, &spec, Source::Unavailable)
        .await
        .unwrap();
    assert_eq!(
        before,
        fixture.everything().await,
        "revoking twice wrote something"
    );
}

#[tokio::test]
async fn older_versions_can_be_revoked_while_the_newest_is_served() {
    let (fixture, tenant, mut spec) = Fixture::with_token("older").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    spec.through_version = Some(version(1));
    let state = fixture.apply(&tenant, &spec, "two").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(2)), Serving::Serving)
    );
    let refused = fixture.apply(&tenant, &spec, "one").await.unwrap();
    assert!(refused.refused.is_some());
    assert_eq!(
        refused.serving,
        Serving::Serving,
        "a refused value must not take the newest down"
    );
}

#[tokio::test]
async fn a_revoked_value_is_refused_and_a_new_one_is_served() {
    let (fixture, tenant, mut spec) = Fixture::with_token("reused").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();

    spec.through_version = Some(version(2));
    let reused = |number| {
        Some(RefusedValue::RevokedValueReused {
            token: spec.id,
            version: version(number),
        })
    };
    for _ in 0..2 {
        let state = fixture.apply(&tenant, &spec, "two").await.unwrap();
        assert_eq!(
            (state.serving, state.refused),
            (Serving::RevokedBySpec, reused(2))
        );
    }
    let state = fixture.apply(&tenant, &spec, "one").await.unwrap();
    assert_eq!(
        (state.serving, state.refused),
        (Serving::RevokedBySpec, reused(1))
    );

    let head = fixture.head(&tenant).await;
    let state = fixture.apply(&tenant, &spec, "three").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(3)), Serving::Serving)
    );
    assert_eq!(fixture.changes(&tenant, head).await, [Change::Widen]);
}

#[tokio::test]
async fn a_revoked_value_is_refused_on_every_token_of_the_tenant_and_nowhere_else() {
    let fixture = Fixture::new("tenant_wide").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let bo = fixture.user(&tenant, "bo").await;
    let mut spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "leaked").await.unwrap();
    spec.through_version = Some(version(1));
    fixture.apply(&tenant, &spec, "leaked").await.unwrap();

    let state = fixture
        .apply(&tenant, &token("bo-github", &bo), "leaked")
        .await
        .unwrap();
    let by = RefusedValue::RevokedValueReused {
        token: spec.id,
        version: version(1),
    };
    assert_eq!(
        (state.serving, state.refused),
        (Serving::NoVersion, Some(by))
    );

    let elsewhere = fixture.tenant("elsewhere").await;
    let cy = fixture.user(&elsewhere, "cy").await;
    let state = fixture
        .apply(&elsewhere, &token("github", &cy), "leaked")
        .await
        .unwrap();
    assert_eq!((state.serving, state.refused), (Serving::Serving, None));
}

#[tokio::test]
async fn the_next_version_comes_after_the_newest_and_the_revoked_ones() {
    let (fixture, tenant, mut spec) = Fixture::with_token("max").await;
    spec.through_version = Some(version(3));
    let state = fixture.apply(&tenant, &spec, "one").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(4)), Serving::Serving)
    );
    spec.through_version = Some(version(9));
    let state = fixture.apply(&tenant, &spec, "two").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(10)), Serving::Serving)
    );
}

#[tokio::test]
async fn the_last_version_number_ends_a_token_and_not_the_controller() {
    let (fixture, tenant, mut spec) = Fixture::with_token("last").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    spec.through_version = Some(version(i32::MAX.cast_unsigned()));
    let state = fixture.apply(&tenant, &spec, "two").await.unwrap();
    assert_eq!(state.refused, Some(RefusedValue::VersionsExhausted));
    assert_eq!(state.serving, Serving::RevokedBySpec);
}

#[tokio::test]
async fn through_version_only_rises() {
    let (fixture, tenant, mut spec) = Fixture::with_token("rises").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    spec.through_version = Some(version(2));
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    for lower in [Some(version(1)), None] {
        spec.through_version = lower;
        let state = fixture.apply(&tenant, &spec, "one").await.unwrap();
        assert_eq!(state.through_version, Some(version(2)));
        assert_eq!(state.serving, Serving::RevokedBySpec);
    }
}

#[tokio::test]
async fn revoking_while_recreating_the_object_means_the_value_that_was_there() {
    let fixture = Fixture::new("recreate_revoke").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let old = token("github", &ana);
    fixture.apply(&tenant, &old, "leaked").await.unwrap();
    let mut new = token("github", &ana);
    new.through_version = Some(version(1));
    let state = fixture.apply(&tenant, &new, "leaked").await.unwrap();
    let by = RefusedValue::RevokedValueReused {
        token: old.id,
        version: version(1),
    };
    assert_eq!(
        (state.serving, state.refused),
        (Serving::NoVersion, Some(by))
    );
    let state = fixture.apply(&tenant, &new, "fresh").await.unwrap();
    assert_eq!(state.newest_version, Some(version(2)));
}

#[tokio::test]
async fn only_revoking_remembers_a_value() {
    let fixture = Fixture::new("remembers").await;
    let tenant = fixture.tenant("team").await;
    let mut ana = fixture.user(&tenant, "ana").await;
    let mut spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    ana.suspended = true;
    fixture.controllers.apply_user(&tenant, &ana).await.unwrap();
    spec.expiration_time = Some("2001-01-01T00:00:00Z".parse().unwrap());
    spec.consumers = Some(vec![]);
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture
        .controllers
        .delete_user(&tenant, ana.uid)
        .await
        .unwrap();
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(spec.deletion_policy))
        .await
        .unwrap();
    assert_eq!(fixture.count("select count(*) from revoked_value").await, 0);

    let again = user("ana");
    fixture
        .controllers
        .apply_user(&tenant, &again)
        .await
        .unwrap();
    let state = fixture
        .apply(&tenant, &token("github", &again), "one")
        .await
        .unwrap();
    assert_eq!((state.serving, state.refused), (Serving::Serving, None));
}

#[tokio::test]
async fn a_recall_is_found_after_a_later_shard_could_not_be_read() {
    let fixture = Fixture::new("recalls").await;
    let mut since = fixture.vault.recalls().await.unwrap();
    let token = Uuid::new_v4();
    for change in [
        "alter table change alter kind drop not null",
        "update change_head set seq = seq + 1 where shard in (0, 15)",
        &format!(
            "insert into change (shard, seq, tenant_id, kind, token_id)
             select shard, seq, '{token}', case shard when 0 then 'Recall' end, '{token}'
             from change_head where shard in (0, 15)"
        ),
    ] {
        fixture.tamper(change).await;
    }
    fixture.vault.recalled(&mut since).await.unwrap_err();
    fixture
        .tamper("update change set kind = 'Widen' where shard = 15")
        .await;
    let tokens = Recalled::Tokens(vec![TokenId::from(token)]);
    assert_eq!(fixture.vault.recalled(&mut since).await.unwrap(), tokens);
    let none = Recalled::Tokens(Vec::new());
    assert_eq!(fixture.vault.recalled(&mut since).await.unwrap(), none);
}
