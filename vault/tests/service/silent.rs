//! A database that is connected and does not answer.

use crate::support::Bed;
use crate::support::proxy::Proxy;

#[tokio::test]
async fn a_revocation_arrives_though_the_connections_to_the_database_fell_silent() {
    let bed = Bed::new("silent_revocation").await;
    let proxy = Proxy::start(&bed.database).await;
    let replica = bed.replica_behind(&proxy).await;
    let (team, _, mut spec) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let (mut events, _) = broker.watch().await;
    let granted = broker.granted("ana", "github").await;

    proxy.fall_silent();
    spec.through_version = Some(granted.version.try_into().unwrap());
    bed.apply(&team, &spec).await;
    assert_eq!(events.recalled().await, [granted.allowance_id]);
    assert!(replica.metric("bursar_vault_failed_polls_total") >= 1);
    replica.stop().await;
}
