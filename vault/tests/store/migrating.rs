//! Migrating as the owner, and opening as the role that was granted its rights.

use bursar_testbed::{Database, shared};
use bursar_vault::{Category, MigrateError, Migration, SchemaError, Vault, migrate};
use sqlx::{Connection, PgConnection};

use crate::fixture::{Fixture, config, refusal};

async fn empty(hint: &str) -> Database {
    shared().empty_database(hint).await.unwrap()
}

fn of(database: &Database) -> Migration {
    Migration {
        database_url: database.owner_url.clone(),
        insecure_database: false,
        runtime_role: database.runtime_role.clone(),
        audit_retention_days: 90,
    }
}

#[tokio::test]
async fn a_database_that_nobody_migrated_is_worth_another_try_after_the_command_it_names() {
    let database = empty("unmigrated").await;
    let error = refusal(config(&database.runtime_url)).await;
    assert_eq!(error.category(), Category::Unavailable);
    let command = format!(
        "BURSAR_DATABASE_URL=OWNER_URL bursar-operator migrate --runtime-role {}",
        database.runtime_role
    );
    assert!(error.to_string().contains(&command), "{error}");

    assert_eq!(migrate(&of(&database)).await.unwrap()[0], 1);
    Vault::open(config(&database.runtime_url))
        .await
        .map(drop)
        .unwrap();
}

#[tokio::test]
async fn the_schema_of_a_release_before_is_worth_another_try() {
    let fixture = Fixture::new("older").await;
    fixture
        .tamper("delete from _sqlx_migrations where version = 2")
        .await;
    let error = refusal(config(&fixture.database.runtime_url)).await;
    assert_eq!(error.category(), Category::Unavailable);
    assert!(
        error.to_string().contains("migration 2 is missing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_role_that_was_granted_nothing_is_named_in_the_command_to_run() {
    let fixture = Fixture::new("ungranted").await;
    let role = &fixture.database.runtime_role;
    fixture
        .tamper(&format!(
            "revoke all on all tables in schema public from \"{role}\""
        ))
        .await;
    let error = refusal(config(&fixture.database.runtime_url)).await;
    assert_eq!(error.category(), Category::Unavailable);
    assert!(
        error
            .to_string()
            .contains(&format!("--runtime-role {role}")),
        "{error}"
    );
    migrate(&of(&fixture.database)).await.unwrap();
    fixture.restarted().await;
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_those_who_serve_go_on() {
    let fixture = Fixture::new("again").await;
    let tenant = fixture.tenant("team").await;
    let before = fixture.everything().await;
    assert!(migrate(&of(&fixture.database)).await.unwrap().is_empty());
    assert_eq!(fixture.everything().await, before);
    fixture.user(&tenant, "ana").await;
}

#[tokio::test]
async fn a_database_may_be_migrated_twice_at_once() {
    let database = empty("both").await;
    let migration = of(&database);
    let (a, b) = tokio::join!(migrate(&migration), migrate(&migration));
    let applied = [a.unwrap(), b.unwrap()];
    assert!(applied.contains(&vec![]), "{applied:?}");
}

#[tokio::test]
async fn a_migration_that_fails_changes_nothing() {
    let database = empty("failing").await;
    let mut connection = PgConnection::connect(&database.owner_url).await.unwrap();
    sqlx::query("create table allowance (x int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = migrate(&of(&database)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("migration 1 failed and changed nothing"),
        "{error}"
    );
    sqlx::query("drop table allowance")
        .execute(&mut connection)
        .await
        .unwrap();
    migrate(&of(&database)).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_half_or_foreign_is_not_migrated_further() {
    let fixture = Fixture::new("half_migrated").await;
    fixture
        .tamper("update _sqlx_migrations set success = false where version = 1")
        .await;
    let error = migrate(&of(&fixture.database)).await.unwrap_err();
    assert!(
        matches!(
            error,
            MigrateError::Schema(SchemaError::HalfApplied { version: 1 })
        ),
        "{error}"
    );
    fixture
        .tamper(r"update _sqlx_migrations set success = true, checksum = '\x00' where version = 1")
        .await;
    let error = migrate(&of(&fixture.database)).await.unwrap_err();
    assert!(
        matches!(
            error,
            MigrateError::Schema(SchemaError::Foreign { version: 1 })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn the_operators_role_must_be_there_and_be_neither_the_owner_nor_a_superuser() {
    let database = empty("roles").await;
    let with_role = |role: &str| Migration {
        runtime_role: role.to_owned(),
        ..of(&database)
    };
    let error = migrate(&with_role("nobody'; --")).await.unwrap_err();
    assert!(matches!(error, MigrateError::NoRole { .. }), "{error}");
    let error = migrate(&with_role("postgres")).await.unwrap_err();
    assert!(matches!(error, MigrateError::SameRole { .. }), "{error}");
    let error = migrate(&with_role(&database.name)).await.unwrap_err();
    assert!(matches!(error, MigrateError::NotOwner { .. }), "{error}");
    // A member of the owner's role could become it.
    let mut superuser = PgConnection::connect(&database.superuser_url)
        .await
        .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "grant \"{}\" to \"{}\"",
        database.name, database.runtime_role
    )))
    .execute(&mut superuser)
    .await
    .unwrap();
    let error = migrate(&of(&database)).await.unwrap_err();
    assert!(matches!(error, MigrateError::SameRole { .. }), "{error}");
}
