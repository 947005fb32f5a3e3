//! Retain and shred.

use bursar_seal::{TokenId, WrappedKey};
use bursar_vault::rows::{DeletionPolicy, VersionRow};
use bursar_vault::{Change, Serving, Tenant};

use crate::fixture::{Fixture, token, user, version};

async fn rows(fixture: &Fixture) -> Vec<VersionRow> {
    sqlx::query_as("select * from token_version order by token_id, version")
        .fetch_all(&fixture.sql)
        .await
        .unwrap()
}

/// How many versions in the table still open with the keys there are.
async fn openable(fixture: &Fixture, tenant: &Tenant) -> usize {
    let mut opened = 0;
    for row in rows(fixture).await {
        let verified = row.clone().verify(tenant.keys()).unwrap();
        let context = verified.context();
        if let Some((key, ciphertext)) = verified.open_key(tenant.keys()).unwrap() {
            key.open_value(&context, &ciphertext).unwrap();
            opened += 1;
        }
        // Nor does anything else in the row.
        let key = tenant.keys().newest();
        for bytes in [&row.fingerprint, &row.mac] {
            let wrapped = WrappedKey::from(bytes.clone());
            assert!(
                key.open_data_key(context.token, context.version, &wrapped)
                    .is_err()
            );
        }
    }
    opened
}

#[tokio::test]
async fn retain_is_dead_at_once_and_keeps_the_keys_for_seven_days() {
    let (fixture, tenant, spec) = Fixture::with_token("retain").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();

    let head = fixture.head(&tenant).await;
    let delete = || {
        fixture
            .controllers
            .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
    };
    delete().await.unwrap();
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(
        fixture
            .count("select count(*) from token where deleted_time is null")
            .await,
        0
    );
    let dead = "select count(*) from token_version where state = 'Dead'
                and shred_time between now() + interval '167 hours' and now() + interval '168 hours'";
    assert_eq!(fixture.count(dead).await, 2);
    assert_eq!(openable(&fixture, &tenant).await, 2);

    // Again, and a sweep before the time, change nothing.
    let before = rows(&fixture).await;
    delete().await.unwrap();
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 0);
    assert_eq!(format!("{before:?}"), format!("{:?}", rows(&fixture).await));
}

#[tokio::test]
async fn when_the_seven_days_are_over_the_keys_are_destroyed() {
    let fixture = Fixture::new("sweep").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let (gone, kept) = (token("github", &ana), token("slack", &ana));
    for spec in [&gone, &kept] {
        fixture.apply(&tenant, spec, "hunter2").await.unwrap();
    }
    fixture
        .controllers
        .delete_token(&tenant, gone.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();

    // Seven days later.
    fixture.seven_days_later(&tenant).await;
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 1);
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 0);
    let left = "select count(*) from token_version where ciphertext is not null";
    assert_eq!(fixture.count(left).await, 1);
    assert_eq!(openable(&fixture, &tenant).await, 1);
    let state = fixture.apply(&tenant, &kept, "hunter2").await.unwrap();
    assert_eq!(state.serving, Serving::Serving);
}

#[tokio::test]
async fn the_keys_of_a_retired_tenant_are_destroyed_in_time_too() {
    let (fixture, tenant, spec) = Fixture::with_token("sweep_retired").await;
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();
    fixture.tenant("team").await;
    fixture.seven_days_later(&tenant).await;
    assert_eq!(fixture.vault.sweep_shred().await.unwrap(), 1);
}

#[tokio::test]
async fn a_tenant_whose_keys_cannot_be_had_does_not_keep_the_others_from_being_swept() {
    let fixture = Fixture::new("sweep_others").await;
    let mut tenants = Vec::new();
    for namespace in ["locked", "team"] {
        let tenant = fixture.tenant(namespace).await;
        let ana = fixture.user(&tenant, "ana").await;
        let spec = token("github", &ana);
        fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
        fixture
            .controllers
            .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
            .await
            .unwrap();
        fixture.seven_days_later(&tenant).await;
        tenants.push(tenant);
    }
    let locked = tenants[0].id();
    // No key is in memory there.
    let restarted = fixture.restarted().await;
    let change = format!("update tenant_key set root_version = 7 where tenant_id = '{locked}'");
    assert_eq!(fixture.tamper(&change).await, 1);

    assert_eq!(restarted.sweep_shred().await.unwrap(), 1);
    let left = format!(
        "select count(*) from token_version
         where wrapped_key is not null and tenant_id = '{locked}'"
    );
    assert_eq!(fixture.count(&left).await, 1);
}

#[tokio::test]
async fn after_shred_nothing_in_the_table_opens() {
    let (fixture, tenant, spec) = Fixture::with_token("shred").await;
    fixture.apply(&tenant, &spec, "one").await.unwrap();
    fixture.apply(&tenant, &spec, "two").await.unwrap();
    assert_eq!(openable(&fixture, &tenant).await, 2);

    let head = fixture.head(&tenant).await;
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(DeletionPolicy::Shred))
        .await
        .unwrap();
    assert_eq!(
        fixture.changes(&tenant, head).await,
        [Change::Recall(spec.id)]
    );
    assert_eq!(openable(&fixture, &tenant).await, 0);
    let kept = "select count(*) from token_version
                where wrapped_key is not null or ciphertext is not null or state <> 'Shredded'";
    assert_eq!(fixture.count(kept).await, 0);
}

#[tokio::test]
async fn a_retained_token_can_still_be_shredded() {
    let (fixture, tenant, spec) = Fixture::with_token("retain_shred").await;
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    for policy in [DeletionPolicy::Retain, DeletionPolicy::Shred] {
        fixture
            .controllers
            .delete_token(&tenant, spec.id, Some(policy))
            .await
            .unwrap();
    }
    assert_eq!(openable(&fixture, &tenant).await, 0);
}

#[tokio::test]
async fn without_a_policy_the_stored_one_holds_if_its_row_is_to_be_believed() {
    let fixture = Fixture::new("stored_policy").await;
    let tenant = fixture.tenant("team").await;
    let ana = fixture.user(&tenant, "ana").await;
    let mut specs = ["shredded", "retained", "damaged"].map(|name| token(name, &ana));
    for (number, spec) in specs.iter_mut().enumerate() {
        if number == 0 {
            spec.deletion_policy = DeletionPolicy::Shred;
        }
        fixture.apply(&tenant, spec, "hunter2").await.unwrap();
    }
    fixture
        .tamper("update token set deletion_policy = 'Shred' where name = 'damaged'")
        .await;
    for spec in &specs {
        fixture
            .controllers
            .delete_token(&tenant, spec.id, None)
            .await
            .unwrap();
    }
    let states: Vec<(String, String)> = fixture
        .tamper_returning("select name, state from token_version join token using (token_id)")
        .await;
    for (name, state) in states {
        let expected = if name == "shredded" {
            "Shredded"
        } else {
            "Dead"
        };
        assert_eq!(state, expected, "{name}");
    }
}

#[tokio::test]
async fn deleting_what_is_not_there_is_nothing() {
    let fixture = Fixture::new("delete_none").await;
    let tenant = fixture.tenant("team").await;
    let before = fixture.everything().await;
    let id = TokenId::from(uuid::Uuid::new_v4());
    fixture
        .controllers
        .delete_token(&tenant, id, Some(DeletionPolicy::Shred))
        .await
        .unwrap();
    fixture
        .controllers
        .delete_user(&tenant, user("x").uid)
        .await
        .unwrap();
    assert_eq!(before, fixture.everything().await, "something was written");
}

#[tokio::test]
async fn a_token_applied_again_after_its_deletion_gets_a_new_version() {
    let (fixture, tenant, spec) = Fixture::with_token("again").await;
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();
    let state = fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(2)), Serving::Serving)
    );
}
