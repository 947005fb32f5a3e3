//! What the testbed's Postgres promises to the tests of other crates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use bursar_testbed::{Database, Folder, Postgres, Server, shared, until};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection};

fn options(url: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(url).unwrap()
}

async fn refusal(options: &PgConnectOptions) -> sqlx::Error {
    PgConnection::connect_with(options).await.unwrap_err()
}

fn code(error: &sqlx::Error) -> String {
    let error = error
        .as_database_error()
        .unwrap_or_else(|| panic!("not the server's: {error}"));
    error.code().unwrap().into_owned()
}

#[tokio::test]
async fn the_urls_we_hand_out_use_tls() {
    let database = shared().database("tls").await.unwrap();
    for url in [
        database.superuser_url,
        database.owner_url,
        database.runtime_url,
    ] {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let encrypted: bool =
            sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        assert!(encrypted);
    }
}

#[tokio::test]
async fn a_connection_without_tls_is_refused() {
    let url = shared().postgres().superuser_url("postgres");
    let error = refusal(&options(&url).ssl_mode(PgSslMode::Disable)).await;
    // invalid_authorization_specification: no rule lets it in.
    assert_eq!(code(&error), "28000");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let url = shared().postgres().superuser_url("postgres");
    let error = refusal(&options(&url).password("wrong")).await;
    assert_eq!(code(&error), "28P01");
}

#[tokio::test]
async fn a_server_signed_by_another_authority_is_refused() {
    let testbed = shared();
    let url = testbed.postgres().superuser_url("postgres");
    let other = testbed.folder().join("kubernetes/ca.crt");
    let error = refusal(&options(&url).ssl_root_cert(&other)).await;
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn the_owner_of_a_database_has_no_rights_on_the_server() {
    let testbed = shared();
    let owned = testbed.database("owned").await.unwrap();
    let mut connection = PgConnection::connect(&owned.owner_url).await.unwrap();
    sqlx::query("CREATE TABLE mine (id int)")
        .execute(&mut connection)
        .await
        .unwrap();

    let error = sqlx::query("CREATE ROLE another")
        .execute(&mut connection)
        .await
        .unwrap_err();

    // insufficient_privilege
    assert_eq!(code(&error), "42501");
}

/// What a database has: each thing with its owner, and who may do what with it.
async fn contents(database: &Database) -> BTreeSet<String> {
    let mut connection = PgConnection::connect(&database.superuser_url)
        .await
        .unwrap();
    let contents: Vec<String> = sqlx::query_scalar(
        "with ours as (
             select oid, nspname, nspowner, nspacl from pg_namespace
             where not starts_with(nspname, 'pg_') and nspname <> 'information_schema')
         select concat_ws(' ', 'database', datdba::regrole, datacl,
                 (select array_agg(setconfig) from pg_db_role_setting where setdatabase = d.oid))
             from pg_database d where datname = current_database()
         union all select concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl) from ours
         union all select concat_ws(' ', 'relation', c.oid::regclass, relkind, relowner::regrole,
                 relacl, relpersistence, relrowsecurity, reloptions)
             from pg_class c join ours on relnamespace = ours.oid
         union all select concat_ws(' ', 'column', attrelid::regclass, attname, attacl)
             from pg_attribute join pg_class c on attrelid = c.oid join ours on relnamespace = ours.oid
             where attnum > 0
         union all select concat_ws(' ', 'function', p.oid::regprocedure, proowner::regrole, proacl,
                 prosecdef, proconfig, md5(prosrc))
             from pg_proc p join ours on pronamespace = ours.oid
         union all select concat_ws(' ', 'type', t.oid::regtype, typowner::regrole, typacl)
             from pg_type t join ours on typnamespace = ours.oid
         union all select concat_ws(' ', 'default', defaclrole::regrole, defaclobjtype, defaclacl)
             from pg_default_acl",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let named = |line: &String| {
        line.replace(&database.runtime_role, "RUNTIME")
            .replace(&database.name, "OWNER")
    };
    contents.iter().map(named).collect()
}

#[tokio::test]
async fn a_migrated_database_is_as_if_its_owner_had_migrated_it() {
    let testbed = shared();
    let migrated = testbed.empty_database("by_its_owner").await.unwrap();
    let mut owner = PgConnection::connect(&migrated.owner_url).await.unwrap();
    let migrations = sqlx::migrate!("../migrations");
    migrations.run(&mut owner).await.unwrap();
    sqlx::query("select grant_runtime($1::text::name)")
        .bind(&migrated.runtime_role)
        .execute(&mut owner)
        .await
        .unwrap();
    let copied = testbed.database("copied").await.unwrap();
    let (copied, migrated) = (contents(&copied).await, contents(&migrated).await);
    assert!(migrated.len() > 100, "{migrated:#?}");
    let differences: Vec<_> = copied.symmetric_difference(&migrated).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

async fn count(server: &Server) -> i64 {
    let mut connection = PgConnection::connect(&server.superuser_url("postgres"))
        .await
        .unwrap();
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn server_with_a_row(folder: &Path) -> Postgres {
    let postgres = Postgres::start(folder).await.unwrap();
    let url = postgres.server().superuser_url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in ["CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)"] {
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    postgres
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_crash_and_a_restart() {
    let folder = Folder::new().unwrap();
    let mut postgres = server_with_a_row(folder.path()).await;

    postgres.kill();
    let url = postgres.server().superuser_url("postgres");
    assert!(
        PgConnection::connect(&url).await.is_err(),
        "it still answers"
    );
    postgres.restart().await.unwrap();
    assert_eq!(count(postgres.server()).await, 1);

    postgres.restart().await.unwrap();
    assert_eq!(count(postgres.server()).await, 1);
}

#[tokio::test]
async fn a_killed_server_leaves_no_process_that_serves_on() {
    let folder = Folder::new().unwrap();
    let mut postgres = server_with_a_row(folder.path()).await;
    let url = postgres.server().superuser_url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let busy = tokio::spawn(async move {
        let asleep = sqlx::query("SELECT pg_sleep(600)");
        asleep.execute(&mut connection).await.map(drop)
    });
    let watcher = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    let mut other = PgConnection::connect(&url).await.unwrap();
    let limit = Duration::from_secs(30);
    let sleeps = until(limit, Duration::from_millis(10), async || {
        let count = sqlx::query_scalar::<_, i64>(watcher);
        (count.fetch_one(&mut other).await.unwrap() == 1).then_some(())
    });
    sleeps.await.unwrap();

    postgres.kill();
    // One that is busy would not notice that the server is gone.
    let ended = tokio::time::timeout(limit, busy).await;
    assert!(ended.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn when_one_backend_is_killed_all_connections_end_and_nothing_is_lost() {
    let folder = Folder::new().unwrap();
    let mut postgres = server_with_a_row(folder.path()).await;
    let url = postgres.server().superuser_url("postgres");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    assert!(!postgres.kill_backend("nobody", 0));
    assert!(postgres.kill_backend("postgres", 0));
    let limit = Duration::from_secs(30);
    let ended = until(limit, Duration::from_millis(10), async || {
        let query = sqlx::query("SELECT 1").execute(&mut connection);
        query.await.err()
    });
    assert!(ended.await.is_some());
    postgres.restart().await.unwrap();
    assert_eq!(count(postgres.server()).await, 1);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() {
    let folder = Folder::new().unwrap();
    let mut postgres = server_with_a_row(folder.path()).await;
    postgres.pause();
    let server = postgres.server().clone();
    let mut counted = std::pin::pin!(count(&server));
    let soon = tokio::time::timeout(Duration::from_millis(500), &mut counted).await;
    assert!(soon.is_err(), "it answered");
    postgres.resume();
    assert_eq!(counted.await, 1);
}

#[tokio::test]
async fn a_crashed_server_leaves_no_shared_memory() {
    let folder = Folder::new().unwrap();
    let mut postgres = Postgres::start(folder.path()).await.unwrap();
    let lock = fs::read_to_string(folder.path().join("postgres/data/postmaster.pid")).unwrap();
    let segment = lock
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().last())
        .unwrap();
    assert!(segments().iter().any(|known| known == segment));

    postgres.kill();
    drop(postgres);

    // The server's children let go of it when they notice that it is gone.
    let limit = Duration::from_secs(30);
    let gone = until(limit, Duration::from_millis(10), async || {
        segments()
            .iter()
            .all(|known| known != segment)
            .then_some(())
    });
    assert_eq!(gone.await, Some(()));
}

/// The ids of all System V shared memory segments of this machine.
fn segments() -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    let ids = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    ids.map(str::to_owned).collect()
}
