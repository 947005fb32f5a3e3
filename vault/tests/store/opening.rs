//! What is checked before the vault serves.

use bursar_testbed::{Database, free_port, shared};
use bursar_vault::{Category, ConnectError, DbTime, OpenError, Vault};

use crate::fixture::{Fixture, config, ns, ns_uid, refusal, roots, token, user};

async fn database(hint: &str) -> Database {
    shared().database(hint).await.unwrap()
}

#[tokio::test]
async fn what_was_stored_opens_after_a_restart() {
    let fixture = Fixture::new("restart").await;
    let tenant = fixture.tenant_with_uid("team", "uid-1").await;
    let ana = fixture.user(&tenant, "ana").await;
    let spec = token("github", &ana);
    fixture.apply(&tenant, &spec, "hunter2").await.unwrap();

    let vault = fixture.restarted().await;
    let again = vault
        .tenant_of(&ns("team"), &ns_uid("uid-1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.id(), tenant.id());
    let controllers = vault.controllers(vault.take_term().await.unwrap());
    let value = crate::fixture::value_of("hunter2");
    let source = bursar_vault::Source::SecretKeyRef(&value);
    let state = controllers
        .apply_token(&again, &spec, source)
        .await
        .unwrap();
    assert!(!state.stored_new_version, "the value was not known again");
}

#[tokio::test]
async fn only_verify_full_is_accepted_unless_said_otherwise() {
    let database = database("sslmode").await;
    for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let url = database.runtime_url.replace("verify-full", mode);
        let error = refusal(config(&url)).await;
        assert_eq!(error.category(), Category::Misconfigured);
        let sentence = error.to_string();
        assert!(sentence.contains(&format!("sslmode={mode};")), "{sentence}");
        assert!(sentence.contains("verify-full"), "{sentence}");
    }
    // Postgres's own default is no verification, too.
    let url = database.runtime_url.split('?').next().unwrap().to_owned();
    assert!(matches!(
        refusal(config(&url)).await,
        OpenError::Connect(ConnectError::Insecure { found: "prefer" })
    ));

    let mut insecure = config(&database.runtime_url.replace("verify-full", "require"));
    insecure.insecure_database = true;
    Vault::open(insecure).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_not_repeated() {
    for url in [
        "",
        "hunter2",
        "mysql://hunter2@host/db",
        "postgres://u:hunter2@[/db",
    ] {
        let error = refusal(config(url)).await;
        assert_eq!(error.category(), Category::Misconfigured, "{url}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_worth_another_try() {
    let port = free_port().unwrap();
    let url = format!("postgres://u:hunter2@127.0.0.1:{port}/vault?sslmode=verify-full");
    let error = refusal(config(&url)).await;
    assert_eq!(error.category(), Category::Unavailable);
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_need_a_person() {
    let database = database("access").await;
    let wrong_password = shared()
        .postgres()
        .superuser_url(&database.name)
        .replace("postgres:", "postgres:x");
    let missing = shared().postgres().superuser_url("no_such_database");
    for url in [
        wrong_password.replacen("postgres:x//", "postgres://", 1),
        missing,
    ] {
        let error = refusal(config(&url)).await;
        assert_eq!(error.category(), Category::Misconfigured, "{error}");
    }
}

#[tokio::test]
async fn a_database_with_a_certificate_of_somebody_else_is_refused() {
    let database = database("authority").await;
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = shared().folder().join(format!("{}.pem", database.name));
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    let (before, _) = database.runtime_url.split_once("sslrootcert=").unwrap();
    let error = refusal(config(&format!("{before}sslrootcert={}", file.display()))).await;
    assert_eq!(error.category(), Category::Misconfigured, "{error}");
}

#[tokio::test]
async fn a_wrong_root_key_is_refused_by_its_version() {
    let fixture = Fixture::new("wrong_root").await;
    let mut wrong = config(&fixture.database.runtime_url);
    wrong.roots = roots([(1, 99)]);
    let error = refusal(wrong).await;
    assert_eq!(error.category(), Category::Misconfigured);
    assert!(error.to_string().contains("root key version 1"), "{error}");

    // Also before there is any data under it.
    let mut second = config(&fixture.database.runtime_url);
    second.roots = roots([(1, 1), (2, 2)]);
    Vault::open(second).await.map(drop).unwrap();
    let mut wrong = config(&fixture.database.runtime_url);
    wrong.roots = roots([(1, 1), (2, 99)]);
    let error = refusal(wrong).await;
    assert!(error.to_string().contains("root key version 2"), "{error}");
}

#[tokio::test]
async fn a_root_key_in_use_must_be_given() {
    let fixture = Fixture::new("missing_root").await;
    fixture.tenant("team").await;
    let mut missing = config(&fixture.database.runtime_url);
    missing.roots = roots([(2, 2)]);
    let error = refusal(missing).await;
    assert_eq!(error.category(), Category::Misconfigured);
    assert!(error.to_string().contains("root key version 1"), "{error}");
}

#[tokio::test]
async fn a_newer_root_key_opens_beside_the_older() {
    let fixture = Fixture::new("second_root").await;
    let old = fixture.tenant_with_uid("old", "uid-1").await;
    let mut both = config(&fixture.database.runtime_url);
    both.roots = roots([(1, 1), (2, 2)]);
    let vault = Vault::open(both).await.unwrap();
    let found = vault
        .tenant_of(&ns("old"), &ns_uid("uid-1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.id(), old.id());
    let controllers = vault.controllers(vault.take_term().await.unwrap());
    let new = controllers
        .ensure_tenant(&ns("new"), &ns_uid("uid-2"))
        .await
        .unwrap();
    controllers.apply_user(&new, &user("ana")).await.unwrap();
    let roots = "select count(distinct root_version) from tenant_key";
    assert_eq!(fixture.count(roots).await, 2);
}

#[tokio::test]
async fn a_migration_applied_by_half_is_told_in_one_sentence() {
    let fixture = Fixture::new("half").await;
    fixture
        .tamper("update _sqlx_migrations set success = false where version = 1")
        .await;
    let error = refusal(config(&fixture.database.runtime_url)).await;
    assert_eq!(error.category(), Category::Misconfigured);
    assert!(
        error
            .to_string()
            .contains("migration 1 was applied by half"),
        "{error}"
    );
}

#[tokio::test]
async fn a_migration_of_another_text_is_told_in_one_sentence() {
    let fixture = Fixture::new("foreign").await;
    fixture
        .tamper(r"update _sqlx_migrations set checksum = '\x00' where version = 1")
        .await;
    let error = refusal(config(&fixture.database.runtime_url)).await;
    assert_eq!(error.category(), Category::Misconfigured);
    assert!(error.to_string().contains("migration 1"), "{error}");
}

#[tokio::test]
async fn the_previous_release_opens_a_newer_schema() {
    let fixture = Fixture::new("newer").await;
    fixture
        .tamper(
            r"insert into _sqlx_migrations (version, description, success, checksum, execution_time)
              values (9999, 'of a later release', true, '\x00', 0)",
        )
        .await;
    fixture.restarted().await;
}

#[tokio::test]
async fn connections_give_up_on_locks_and_never_on_statements() {
    let fixture = Fixture::new("settings").await;
    let tenant = fixture.tenant("team").await;
    let mut blocker = fixture.sql.begin().await.unwrap();
    sqlx::query("select from tenant for update")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let error = fixture
        .controllers
        .apply_user(&tenant, &user("ana"))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Unavailable, "{error}");
    blocker.rollback().await.unwrap();
    fixture
        .controllers
        .apply_user(&tenant, &user("ana"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_time_is_the_databases_at_each_question() {
    let fixture = Fixture::new("time").await;
    let by_sql = async || -> DbTime {
        let now = sqlx::query_scalar("select clock_timestamp()");
        now.fetch_one(&fixture.sql).await.unwrap()
    };
    for _ in 0..2 {
        let before = by_sql().await;
        let told = fixture.vault.database_time().await.unwrap();
        assert!(before < told && told < by_sql().await);
    }
}
