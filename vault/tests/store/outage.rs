//! A database that goes away and comes back.

use std::time::Duration;

use bursar_testbed::{Database, Folder, Postgres};
use bursar_vault::{Category, Controllers, Serving, Source, Tenant, TokenSpec, Vault};

use crate::fixture::{config, ns, ns_uid, token, user, value_of, version};

struct Server {
    postgres: Postgres,
    database: Database,
    _folder: Folder,
}

impl Server {
    async fn start() -> Self {
        let folder = Folder::new().unwrap();
        let postgres = Postgres::start(folder.path()).await.unwrap();
        let database = postgres.server().create_database("vault").await.unwrap();
        Self {
            postgres,
            database,
            _folder: folder,
        }
    }

    async fn token(&self) -> (Controllers, Tenant, TokenSpec) {
        let vault = Vault::open(config(&self.database.runtime_url))
            .await
            .unwrap();
        let controllers = vault.controllers(vault.take_term().await.unwrap());
        let tenant = controllers
            .ensure_tenant(&ns("team"), &ns_uid("uid-1"))
            .await
            .unwrap();
        let ana = user("ana");
        controllers.apply_user(&tenant, &ana).await.unwrap();
        (controllers, tenant, token("github", &ana))
    }
}

#[tokio::test]
async fn a_database_that_is_away_for_a_while_loses_nothing() {
    let mut server = Server::start().await;
    let (controllers, tenant, spec) = server.token().await;
    let (one, two) = (value_of("one"), value_of("two"));
    controllers
        .apply_token(&tenant, &spec, Source::SecretKeyRef(&one))
        .await
        .unwrap();

    server.postgres.stop();
    let error = controllers
        .apply_token(&tenant, &spec, Source::SecretKeyRef(&two))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Unavailable, "{error}");
    let error = controllers
        .ensure_tenant(&ns("team"), &ns_uid("uid-1"))
        .await
        .err()
        .unwrap();
    assert_eq!(error.category(), Category::Unavailable, "{error}");
    let error = controllers.vault().database_time().await.unwrap_err();
    assert_eq!(error.category(), Category::Unavailable, "{error}");

    // The same vault goes on by itself.
    server.postgres.restart().await.unwrap();
    let state = controllers
        .apply_token(&tenant, &spec, Source::SecretKeyRef(&two))
        .await
        .unwrap();
    assert_eq!(
        (state.newest_version, state.serving),
        (Some(version(2)), Serving::Serving)
    );
}

#[tokio::test]
async fn a_version_is_made_once_though_the_database_crashes_meanwhile() {
    let mut server = Server::start().await;
    let (controllers, tenant, spec) = server.token().await;
    for round in 1..=6 {
        let value = value_of(&format!("value {round}"));
        let apply = || controllers.apply_token(&tenant, &spec, Source::SecretKeyRef(&value));
        // Killed somewhere between the first statement and the answer.
        let killed = async {
            tokio::time::sleep(Duration::from_millis(4 * u64::from(round))).await;
            server.postgres.kill();
        };
        let (_lost, ()) = tokio::join!(apply(), killed);
        server.postgres.restart().await.unwrap();
        let state = apply().await.unwrap();
        assert_eq!(state.newest_version, Some(version(round)), "round {round}");
        assert_eq!(state.serving, Serving::Serving);
    }
}
