//! What the operator waits for, what it refuses, and how it ends.

use std::path::PathBuf;
use std::sync::Arc;

use bursar_crds::reasons::ConditionType::{Ready, Usable};
use bursar_crds::{StoredToken, TokenUser};
use bursar_operator::{Machine, RunError};
use bursar_testbed::{free_port, shared, until};
use bursar_vault::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::operator::{
    LIMIT, PAUSE, Running, config, machine_with, operator, page, root_key_folder,
};
use crate::team::{Team, said};

/// Why an operator with such a database and key does not start.
async fn refusal(database_url: &str, root_keys: PathBuf) -> String {
    let mut config = config(database_url, &root_keys);
    config.no_controllers = true;
    let running = Running::start(config, operator().await.machine().await);
    running.ended().await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_wrong_root_key_is_refused_by_its_version() {
    let url = &operator().await.database.runtime_url;
    let told = refusal(url, root_key_folder("wrong-root-keys", &[8; 32])).await;
    assert!(told.contains("version 1"), "{told}");
}

#[tokio::test]
async fn a_root_key_that_is_not_32_bytes_is_refused_by_its_path() {
    let folder = root_key_folder("short-root-keys", b"planted-short");
    let told = refusal(&operator().await.database.runtime_url, folder.clone()).await;
    assert!(told.contains(folder.join("1").to_str().unwrap()), "{told}");
    assert!(!told.contains("planted"), "{told}");
}

#[tokio::test]
async fn a_database_without_verification_is_refused() {
    let url = &operator().await.database.runtime_url;
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    let told = refusal(&url, root_key_folder("operator-root-keys", &[7; 32])).await;
    assert!(told.contains("--insecure-database"), "{told}");
}

#[tokio::test]
async fn a_migration_applied_by_half_is_refused_by_its_number() {
    let database = shared().database("half").await.unwrap();
    let keys = root_key_folder("half-root-keys", &[9; 32]);
    let mut first = config(&database.runtime_url, &keys);
    let pages = free_port().unwrap();
    first.no_controllers = true;
    first.metrics_listen = ([127, 0, 0, 1], pages).into();
    let running = Running::start(first, operator().await.machine().await);
    let ready = until(LIMIT, PAUSE, async || {
        page(pages, "readyz").await.filter(|page| page == "ok\n")
    });
    assert!(ready.await.is_some());
    running.end().await.unwrap();

    let mut connection = PgConnection::connect(&database.superuser_url)
        .await
        .unwrap();
    sqlx::query("update _sqlx_migrations set success = false where version = 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let told = refusal(&database.runtime_url, keys).await;
    assert!(told.contains("migration 1 was applied by half"), "{told}");
}

#[tokio::test]
async fn a_database_that_nobody_migrated_is_waited_for_until_the_command_on_readyz_was_run() {
    let database = shared().empty_database("unmigrated").await.unwrap();
    let keys = root_key_folder("unmigrated-root-keys", &[9; 32]);
    let mut config = config(&database.runtime_url, &keys);
    let pages = free_port().unwrap();
    config.no_controllers = true;
    config.metrics_listen = ([127, 0, 0, 1], pages).into();
    let running = Running::start(config, operator().await.machine().await);
    let command = format!(
        "BURSAR_DATABASE_URL=OWNER_URL bursar-operator migrate --runtime-role {}",
        database.runtime_role
    );
    let said = until(LIMIT, PAUSE, async || {
        page(pages, "readyz")
            .await
            .filter(|page| page.contains(&command))
    });
    assert!(said.await.is_some(), "{:?}", page(pages, "readyz").await);

    let migrated = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar-operator"))
        .args(["migrate", "--runtime-role", &database.runtime_role])
        .env("BURSAR_DATABASE_URL", &database.owner_url)
        .output();
    let migrated = migrated.await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    let ready = until(LIMIT, PAUSE, async || {
        page(pages, "readyz").await.filter(|page| page == "ok\n")
    });
    assert!(ready.await.is_some());
    running.end().await.unwrap();
}

#[tokio::test]
async fn an_account_whose_writes_the_policies_refuse_is_named_and_refused() {
    operator().await;
    // Nobody migrated it: were it not refused, it would wait, and disturb nobody.
    let database = shared().empty_database("foreign-account").await.unwrap();
    let keys = root_key_folder("foreign-account-root-keys", &[9; 32]);
    let machine = machine_with(shared().kubeconfig()).await;
    let running = Running::start(config(&database.runtime_url, &keys), machine);
    let ended = tokio::time::timeout(LIMIT, running.ended()).await;
    let told = ended.expect("it does not wait").unwrap_err().to_string();
    let must_be = "run it as system:serviceaccount:bursar-system:bursar-operator";
    assert!(told.contains(must_be), "{told}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let operator = operator().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = operator.config_of_another();
    config.no_controllers = true;
    config.metrics_listen = taken.local_addr().unwrap();
    let ended = Running::start(config, operator.machine().await)
        .ended()
        .await;
    assert!(
        matches!(ended, Err(RunError::Listen { address, .. }) if address == taken.local_addr().unwrap())
    );
}

#[tokio::test]
async fn postgres_away_at_start_is_waited_for_and_said_on_readyz() {
    let operator = operator().await;
    let keys = root_key_folder("operator-root-keys", &[7; 32]);
    let direct = format!(":{}/", shared().postgres().port);
    let (nobody, pages) = (free_port().unwrap(), free_port().unwrap());
    let url = operator
        .database
        .runtime_url
        .replace(&direct, &format!(":{nobody}/"));
    let mut config = config(&url, &keys);
    config.no_controllers = true;
    config.metrics_listen = ([127, 0, 0, 1], pages).into();
    let running = Running::start(config, operator.machine().await);
    let says = until(LIMIT, PAUSE, async || {
        page(pages, "readyz")
            .await
            .filter(|page| page.contains("database: waiting for Postgres"))
    });
    let says = says.await.unwrap();
    assert!(
        !says.contains("password") && !says.contains(&operator.database.name),
        "{says}"
    );
    assert_eq!(page(pages, "healthz").await.as_deref(), Some("ok\n"));
    running.end().await.unwrap();
}

#[tokio::test]
async fn postgres_away_later_is_said_and_nothing_is_lost() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    for name in ["github", "slack"] {
        team.secret(name, "planted-1").await;
        team.token(name, "ana").await;
        team.serving(name, 1).await;
    }
    // Heard of after all that slack still waited for, so slack has come to rest by then.
    team.secret("github", "planted-2").await;
    team.serving("github", 2).await;
    let untouched = team
        .get::<StoredToken>("slack")
        .await
        .unwrap()
        .metadata
        .resource_version;

    let cut = operator.cable.cut();
    let not_ready = until(LIMIT, PAUSE, async || {
        operator
            .page("readyz")
            .await
            .filter(|page| page.contains("waiting for Postgres"))
    });
    assert!(not_ready.await.is_some());
    team.secret("github", "planted-3").await;
    let token = team.refused("github", "VaultUnavailable").await;
    assert_eq!(
        said(&token, Usable),
        "True Serving",
        "what brokers hold goes on"
    );
    let slack = team.get::<StoredToken>("slack").await.unwrap();
    assert_eq!(
        slack.metadata.resource_version, untouched,
        "nothing happened to it"
    );
    // Deleting waits, too.
    let deleting = async { team.delete::<StoredToken>("slack").await };
    let mending = async {
        let held = until(LIMIT, PAUSE, async || {
            let token = team.get::<StoredToken>("slack").await.unwrap();
            token.metadata.deletion_timestamp
        });
        assert!(held.await.is_some());
        drop(cut);
    };
    tokio::join!(deleting, mending);

    team.serving("github", 3).await;
    let ready = until(LIMIT, PAUSE, async || {
        operator.page("readyz").await.filter(|page| page == "ok\n")
    });
    assert!(ready.await.is_some());
}

/// A clock that is an hour slow.
struct Slow;

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        SystemClock.now() - SignedDuration::from_hours(1)
    }
}

/// Whether a page of metrics has the database's clock an hour ahead.
fn an_hour_ahead(page: Option<String>) -> Option<()> {
    let name = "bursar_database_clock_ahead_seconds ";
    let ahead: f64 = page?
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .parse()
        .unwrap();
    (3590.0..=3610.0).contains(&ahead).then_some(())
}

#[tokio::test]
async fn a_clock_that_is_off_is_measured_by_a_replica_that_stores_nothing_too() {
    let operator = operator().await;
    let pages = free_port().unwrap();
    let mut config = operator.config_of_another();
    config.no_controllers = true;
    config.listen = ([127, 0, 0, 1], free_port().unwrap()).into();
    config.metrics_listen = ([127, 0, 0, 1], pages).into();
    let machine = Machine {
        clock: Arc::new(Slow),
        ..operator.machine().await
    };
    let running = Running::start(config, machine);
    let measured = until(LIMIT, PAUSE, async || {
        an_hour_ahead(page(pages, "metrics").await)
    });
    assert!(measured.await.is_some());
    running.end().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_off_is_measured_and_the_databases_decides() {
    let operator = operator().await;
    let _taken = operator.take().await;
    operator.stop().await;
    let machine = operator.machine().await;
    operator
        .start_on(Machine {
            clock: Arc::new(Slow),
            ..machine
        })
        .await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    team.secret("github", "planted-github").await;
    // By the operator's clock this lies half an hour ahead, by the database's behind.
    let expires = SystemClock.now() - SignedDuration::from_mins(30);
    let spec = json!({ "expirationTime": format!("{expires:.0}") });
    team.token_with("github", "ana", spec).await;
    team.wait::<StoredToken>("github", Usable, "False Expired")
        .await;
    // By the operator's clock this is an hour and some seconds off.
    let soon = SystemClock.now() + SignedDuration::from_secs(5);
    let spec = json!({ "expirationTime": format!("{soon:.0}") });
    team.token_with("github", "ana", spec).await;
    team.serving("github", 1).await;
    team.wait::<StoredToken>("github", Usable, "False Expired")
        .await;
    assert!(
        until(LIMIT, PAUSE, async || an_hour_ahead(
            operator.page("metrics").await
        ))
        .await
        .is_some()
    );
    operator.stop().await;
    operator.start().await;
}

#[tokio::test]
async fn another_operator_ends_the_controllers_of_the_first_but_not_its_vault() {
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    team.wait::<TokenUser>("ana", Ready, "True Reconciled")
        .await;
    assert_eq!(operator.metric("bursar_controllers_active").await, 1.0);

    let pages = free_port().unwrap();
    let mut config = operator.config_of_another();
    config.listen = ([127, 0, 0, 1], free_port().unwrap()).into();
    config.metrics_listen = ([127, 0, 0, 1], pages).into();
    let second = Running::start(config, operator.machine().await);
    let ready = until(LIMIT, PAUSE, async || {
        page(pages, "readyz").await.filter(|page| page == "ok\n")
    });
    assert!(ready.await.is_some());
    // Something to write, so that the first learns of it.
    team.user_with("ana", json!({ "suspended": true })).await;
    team.wait::<TokenUser>("ana", Usable, "False UserSuspended")
        .await;
    let ended = until(LIMIT, PAUSE, async || {
        (operator.metric("bursar_controllers_active").await == 0.0).then_some(())
    });
    assert!(ended.await.is_some());
    assert_eq!(
        operator.page("readyz").await.as_deref(),
        Some("ok\n"),
        "it serves the vault"
    );
    second.end().await.unwrap();

    operator.stop().await;
    operator.start().await;
    team.user_with("ana", json!({ "suspended": false })).await;
    team.wait::<TokenUser>("ana", Usable, "True Active").await;
}

#[tokio::test]
async fn a_process_told_to_end_says_not_ready_and_exits_with_0() {
    let operator = operator().await;
    let mut process = operator.vault_process(0).await;
    let pid = process.id().unwrap().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(0));
}
