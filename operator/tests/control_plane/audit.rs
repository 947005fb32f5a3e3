//! Whether the audit is as it was written: its chains, its checkpoints, and what binds these
//! outside the database.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_operator::Machine;
use bursar_testbed::until;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;

use crate::api_server::Relay;
use crate::database::Rows;
use crate::operator::{LIMIT, PAUSE, operator};
use crate::people::{change_record, database, tenant, with_token};
use crate::team::Team;

const NAME: &str = "bursar-audit-checkpoint";

/// Waits for a checkpoint after number `before`.
async fn checkpoint_after(rows: &Rows, before: i64) -> i64 {
    let newer = until(LIMIT, PAUSE, async || {
        let newest = rows.newest_checkpoint().await;
        (newest > before).then_some(newest)
    });
    newer.await.unwrap()
}

#[tokio::test]
async fn an_api_server_that_never_answers_is_asked_again_and_the_time_of_the_last_checkpoint_tells()
{
    let operator = operator().await;
    let _taken = operator.take().await;
    operator.stop().await;
    let machine = operator.machine().await;
    let relay = Relay::to(machine.kubernetes.clone()).await;
    let mut config = operator.config();
    config.timing.audit_checkpoint_limit = Duration::from_secs(3);
    let kubernetes = relay.config();
    let machine = Machine {
        kubernetes,
        ..machine
    };
    operator.start_with(config, machine).await;
    let last = async || {
        let name = "bursar_last_checkpoint_timestamp_seconds";
        operator.metric(name).await
    };
    let held = async |times: usize| {
        let held = until(LIMIT, PAUSE, async || (relay.held() >= times).then_some(()));
        held.await.expect("it was not asked again");
    };

    relay.hold_checkpoint();
    held(1).await;
    let before = last().await;
    held(2).await;
    assert_eq!(last().await, before);
    relay.let_checkpoint_through();
    let goes_on = until(LIMIT, PAUSE, async || (last().await > before).then_some(()));
    goes_on.await.expect("no checkpoint since");

    operator.stop().await;
    operator.start().await;
}

#[tokio::test]
async fn the_newest_checkpoints_are_bound_outside_the_database_and_a_cut_does_not_unbind_them() {
    // Alone, because the ConfigMap binds the checkpoints of all namespaces.
    let operator = operator().await;
    let _taken = operator.take().await;
    let team = Team::of_taken(operator).await;
    team.user("ana").await;
    let rows = Rows::of(&team.namespace).await;
    let there = until(LIMIT, PAUSE, async || {
        (rows.tenants().await == 1).then_some(())
    });
    there.await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(team.client.clone(), "bursar-system");
    let bound =
        async || -> Option<BTreeMap<String, String>> { maps.get_opt(NAME).await.unwrap()?.data };
    let changed = async |before: Option<BTreeMap<String, String>>| {
        let now = until(LIMIT, PAUSE, async || {
            bound().await.filter(|now| Some(now) != before.as_ref())
        });
        now.await.expect("the ConfigMap was not written")
    };

    let before = bound().await;
    rows.move_chain().await;
    let first = changed(before).await;
    assert_eq!(rows.newest_checkpoint().await, 1);
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        ["checkpointTime", "sha256"]
    );
    assert_eq!(first["sha256"].len(), 64);
    rows.move_chain().await;
    let second = changed(Some(first.clone())).await;
    assert_ne!(second["sha256"], first["sha256"]);

    // Somebody takes the newest checkpoint away. It is written anew, and does not replace
    // what tells of the cut.
    let time = rows.remove_newest_checkpoint().await;
    assert!(second["checkpointTime"].starts_with(time.trim_end_matches('0')));
    let anew = checkpoint_after(&rows, 1).await;
    rows.move_chain().await;
    checkpoint_after(&rows, anew).await;
    assert_eq!(bound().await.as_ref(), Some(&second));

    // Until a person has looked into it.
    maps.delete(NAME, &DeleteParams::default()).await.unwrap();
    let third = changed(Some(second)).await;

    // Nor does a database without any checkpoint say anything against what is bound.
    let failed = "bursar_failed_checkpoints_total";
    let before = operator.metric(failed).await;
    rows.remove_audit().await;
    let noticed = until(LIMIT, PAUSE, async || {
        (operator.metric(failed).await > before).then_some(())
    });
    noticed.await.expect("nobody noticed that all is gone");
    assert_eq!(bound().await, Some(third));
    maps.delete(NAME, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_record_that_somebody_changed_is_found_and_named() {
    let team = with_token().await;
    team.bursar(&["revoke", "github"]).await.unwrap();
    team.bursar(&["audit"]).await.unwrap();
    let good = team.bursar(&["audit", "verify"]).await.unwrap();
    assert!(good.success, "{}", good.out);
    // The revocation, the query, and that somebody verifies.
    assert!(good.out.contains("3 records in 1 chains"), "{}", good.out);

    change_record(&team).await;
    let bad = team.bursar(&["audit", "verify"]).await.unwrap();
    assert!(!bad.success);
    assert!(bad.out.contains("FIRST BAD PLACE: chain "), "{}", bad.out);
    assert!(bad.out.contains("record 1"), "{}", bad.out);
}

#[tokio::test]
async fn checkpoints_are_verified_with_the_records() {
    let team = with_token().await;
    team.bursar(&["audit"]).await.unwrap();
    let tenant = tenant(&team).await;
    let superuser = database(&team).await;
    let checkpoints = async || -> i64 {
        sqlx::query_scalar("select count(*) from checkpoint where tenant_id = $1")
            .bind(tenant)
            .fetch_one(&superuser)
            .await
            .unwrap()
    };
    let made = until(LIMIT, PAUSE, async || {
        (checkpoints().await > 0).then_some(())
    });
    made.await.unwrap();
    let printed = team.bursar(&["audit", "verify"]).await.unwrap();
    assert!(printed.success, "{}", printed.out);
    assert!(!printed.out.contains("0 checkpoints"), "{}", printed.out);
}
