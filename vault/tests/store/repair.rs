//! What becomes of damaged rows.

use bursar_vault::{Category, Serving, Source};
use sqlx::AssertSqlSafe;

use crate::fixture::{value_of, version};
use crate::team::{Team, authentic, fixture_with, records};

#[tokio::test]
async fn a_tenant_key_under_a_root_key_that_was_not_given_is_a_wrong_setting() {
    let fixture = fixture_with("root_version").await;
    let team = Team::new(&fixture, "team").await;
    let controllers = fixture
        .restarted()
        .await
        .controllers(fixture.controllers.term());
    fixture
        .tamper("update tenant_key set root_version = 7")
        .await;
    let error = team
        .apply(&controllers, (&team.ana, &team.github))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Misconfigured, "{error}");
    assert!(error.to_string().contains("root key version 7"), "{error}");
}

#[tokio::test]
async fn a_row_of_a_spec_is_written_anew_and_its_record_stays() {
    let fixture = fixture_with("repair").await;
    for (table, change) in [
        ("token_user", "suspended = not suspended"),
        ("workload", "service_account_name = 'intruder'"),
        ("token", "narrowed = false"),
        ("consumer", "purposes = null"),
    ] {
        let team = Team::new(&fixture, &table.replace('_', "-")).await;
        let statement = format!("update {table} set {change} where {}", team.row(table));
        assert_eq!(fixture.tamper(&statement).await, 1);
        let ana = (&team.ana, &team.github);
        assert_eq!(
            team.apply(&fixture.controllers, ana).await.unwrap(),
            Serving::Serving,
            "{table}"
        );
        let of_tenant = format!(
            "select * from {table} where tenant_id = '{}'",
            team.tenant.id()
        );
        let fit = authentic(&fixture, table, of_tenant, team.tenant.keys()).await;
        assert!(fit.iter().all(|fits| *fits), "{table}");
        assert_eq!(
            records(&fixture).await.last().map(String::as_str),
            Some(table)
        );
    }
    assert_eq!(
        fixture
            .count("select count(*) from workload where service_account_name = 'intruder'")
            .await,
        0
    );
    assert_eq!(records(&fixture).await.len(), 4);
}

#[tokio::test]
async fn a_damaged_version_is_replaced_by_the_source_and_never_served() {
    let fixture = fixture_with("damaged_version").await;
    let team = Team::new(&fixture, "team").await;
    fixture
        .tamper(&format!(
            "update token_version set origin = 'Generate' where {}",
            team.row("token_version")
        ))
        .await;
    for _ in 0..2 {
        let state = fixture
            .controllers
            .apply_token(&team.tenant, &team.github, Source::Unavailable)
            .await
            .unwrap();
        assert_eq!(state.serving, Serving::IntegrityFailure);
        assert_eq!(state.damaged.len(), 1);
    }
    assert_eq!(records(&fixture).await, ["token_version"]);
    let state = fixture
        .apply(&team.tenant, &team.github, "github")
        .await
        .unwrap();
    assert_eq!(
        (state.serving, state.stored_new_version),
        (Serving::Serving, true)
    );
    let state = fixture
        .apply(&team.tenant, &team.github, "github")
        .await
        .unwrap();
    assert!(state.damaged.is_empty() && !state.stored_new_version);
}

#[tokio::test]
async fn what_a_spec_takes_away_is_taken_though_a_row_is_damaged() {
    let fixture = fixture_with("take_away").await;
    let team = Team::new(&fixture, "team").await;
    let tenant = &team.tenant;
    fixture
        .tamper("update tenant_secret set wrapped_key = set_byte(wrapped_key, 20, 0)")
        .await;
    let restarted = fixture.restarted().await;
    let controllers = restarted.controllers(fixture.controllers.term());
    let mut revoked = team.github.clone();
    revoked.through_version = Some(version(1));
    let cold = restarted.tenant_by_id(tenant.id()).await.unwrap().unwrap();
    let value = value_of("github");
    let error = controllers
        .apply_token(&cold, &revoked, Source::SecretKeyRef(&value))
        .await
        .unwrap_err();
    assert_eq!(error.category(), Category::Integrity);
    let dead = format!(
        "select count(*) from token_version where {} and state = 'Dead'",
        team.row("token_version")
    );
    assert_eq!(
        fixture.count(&dead).await,
        1,
        "the revocation waited for the damaged key"
    );

    // And deleting finishes whatever is damaged.
    fixture.tamper("update token set epoch = epoch + 1").await;
    fixture
        .tamper("update token_version set origin = 'Generate'")
        .await;
    fixture
        .tamper("update token_user set epoch = epoch + 1")
        .await;
    let policy = bursar_vault::rows::DeletionPolicy::Shred;
    controllers
        .delete_token(&cold, team.github.id, Some(policy))
        .await
        .unwrap();
    controllers.delete_user(&cold, team.ana.uid).await.unwrap();
    let left = format!(
        "select count(*) from token_version where {} and ciphertext is not null",
        team.row("token_version")
    );
    assert_eq!(fixture.count(&left).await, 0);
}

#[tokio::test]
async fn a_changed_row_is_recorded_once_and_again_when_changed_again() {
    let fixture = fixture_with("again").await;
    let team = Team::new(&fixture, "team").await;
    for round in 1..=2 {
        fixture
            .tamper("update token_version set version_time = version_time + interval '1 second'")
            .await;
        for _ in 0..3 {
            fixture
                .controllers
                .apply_token(&team.tenant, &team.github, Source::Unavailable)
                .await
                .unwrap();
        }
        assert_eq!(records(&fixture).await.len(), round);
    }
    let seen: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe("select row_key from integrity_failure"))
            .fetch_all(&fixture.sql)
            .await
            .unwrap();
    assert!(
        seen.iter()
            .all(|key| *key == format!("{}/1", team.github.id)),
        "{seen:?}"
    );
}
