//! A tenant is one life of one namespace.

use bursar_vault::rows::DeletionPolicy;
use bursar_vault::{Change, Vault, VaultError};

use crate::fixture::{Fixture, config, ns, ns_uid, token, user};

#[tokio::test]
async fn a_namespace_has_one_tenant_however_often_it_is_asked_for() {
    let fixture = Fixture::new("tenant").await;
    let first = fixture.tenant_with_uid("team", "uid-1").await;
    let before = fixture.everything().await;
    let again = fixture.tenant_with_uid("team", "uid-1").await;
    assert_eq!(first.id(), again.id());
    assert_eq!(before, fixture.everything().await, "something was written");

    let found = fixture
        .vault
        .tenant_by_id(first.id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.id(), found.shard()), (first.id(), first.shard()));
}

#[tokio::test]
async fn reconciles_that_meet_make_one_tenant() {
    let fixture = Fixture::new("meet").await;
    let (namespace, uid) = (ns("team"), ns_uid("uid-1"));
    let ask = || fixture.controllers.ensure_tenant(&namespace, &uid);
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    let ids = [a, b, c, d].map(|tenant| tenant.unwrap().id());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fixture.count("select count(*) from tenant").await, 1);
    assert_eq!(fixture.count("select count(*) from tenant_key").await, 1);
}

#[tokio::test]
async fn a_restart_with_many_tenants_does_not_wait_for_its_own_connections() {
    let fixture = Fixture::new("many").await;
    let names: Vec<String> = (0..30).map(|n| format!("team-{n}")).collect();
    for name in &names {
        fixture.tenant_with_uid(name, name).await;
    }
    // More callers than connections, and no key in memory yet.
    let restarted = fixture.restarted().await;
    let controllers = &restarted.controllers(fixture.controllers.term());
    let asked = names
        .iter()
        .map(|name| async { controllers.ensure_tenant(&ns(name), &ns_uid(name)).await });
    for tenant in futures::future::join_all(asked).await {
        tenant.map(drop).unwrap();
    }
}

#[tokio::test]
async fn a_write_needs_one_connection_and_no_more() {
    let (fixture, tenant, spec) = Fixture::with_token("one_connection").await;
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();
    fixture
        .controllers
        .delete_token(&tenant, spec.id, Some(DeletionPolicy::Retain))
        .await
        .unwrap();
    fixture.seven_days_later(&tenant).await;

    // A second one would be waited for in vain.
    let mut narrow = config(&fixture.database.runtime_url);
    narrow.max_connections = 1;
    let vault = Vault::open(narrow).await.unwrap();
    // No key is in memory yet.
    assert_eq!(vault.sweep_shred().await.unwrap(), 1);

    fixture
        .tamper("update tenant set namespace = namespace || 'x'")
        .await;
    let error = vault
        .controllers(fixture.controllers.term())
        .apply_user(&tenant, &user("bo"))
        .await
        .unwrap_err();
    assert!(matches!(error, VaultError::Integrity(_)), "{error}");
    let recorded = "select count(*) from integrity_failure where table_name = 'tenant'";
    assert_eq!(fixture.count(recorded).await, 1);
}

#[tokio::test]
async fn a_recreated_namespace_starts_empty_and_the_old_tenant_is_never_read_again() {
    let fixture = Fixture::new("recreated").await;
    let old = fixture.tenant_with_uid("team", "uid-1").await;
    let ana = fixture.user(&old, "ana").await;
    let spec = token("github", &ana);
    fixture.apply(&old, &spec, "hunter2").await.unwrap();
    let head = fixture.head(&old).await;

    let new = fixture.tenant_with_uid("team", "uid-2").await;
    assert_ne!(old.id(), new.id());
    assert_eq!(fixture.changes(&old, head).await, [Change::Recall(spec.id)]);
    let of_new = format!(
        "select count(*) from token_user where tenant_id = '{}'",
        new.id()
    );
    assert_eq!(fixture.count(&of_new).await, 0);

    let gone = fixture
        .vault
        .tenant_of(&ns("team"), &ns_uid("uid-1"))
        .await
        .unwrap();
    assert!(gone.is_none());
    assert!(
        fixture
            .vault
            .tenant_by_id(old.id())
            .await
            .unwrap()
            .is_none()
    );
    let restarted = fixture.restarted().await;
    assert!(
        restarted
            .tenant_of(&ns("team"), &ns_uid("uid-1"))
            .await
            .unwrap()
            .is_none()
    );

    let retired =
        |error| matches!(error, VaultError::TenantRetired { tenant } if tenant == old.id());
    let again = fixture
        .controllers
        .ensure_tenant(&ns("team"), &ns_uid("uid-1"))
        .await;
    assert!(retired(again.map(drop).unwrap_err()));
    assert!(retired(
        fixture
            .controllers
            .apply_user(&old, &user("bo"))
            .await
            .unwrap_err()
    ));
    assert!(retired(
        fixture
            .controllers
            .delete_user(&old, ana.uid)
            .await
            .unwrap_err()
    ));
    let mut changed = spec;
    changed.provider = "gitlab".parse().unwrap();
    assert!(retired(
        fixture.apply(&old, &changed, "other").await.unwrap_err()
    ));
}

#[tokio::test]
async fn a_namespace_that_was_never_applied_has_no_tenant() {
    let fixture = Fixture::new("unknown").await;
    fixture.tenant_with_uid("team", "uid-1").await;
    for (namespace, uid) in [("other", "uid-9"), ("team", "uid-9")] {
        let found = fixture
            .vault
            .tenant_of(&ns(namespace), &ns_uid(uid))
            .await
            .unwrap();
        assert!(found.is_none(), "{namespace} {uid}");
    }
}

#[tokio::test]
async fn clusters_do_not_share_tenants() {
    let fixture = Fixture::new("clusters").await;
    let ours = fixture.tenant_with_uid("team", "uid-1").await;
    let mut other = config(&fixture.database.runtime_url);
    other.cluster_id = "cluster-2".to_owned();
    let other = Vault::open(other).await.unwrap();
    assert!(
        other
            .tenant_of(&ns("team"), &ns_uid("uid-1"))
            .await
            .unwrap()
            .is_none()
    );
    let controllers = other.controllers(other.take_term().await.unwrap());
    let theirs = controllers
        .ensure_tenant(&ns("team"), &ns_uid("uid-1"))
        .await
        .unwrap();
    assert_ne!(ours.id(), theirs.id());
    assert!(
        fixture
            .vault
            .tenant_of(&ns("team"), &ns_uid("uid-1"))
            .await
            .unwrap()
            .is_some()
    );
}
