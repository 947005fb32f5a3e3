//! What brokers are told, and that none of it is missed.

use std::slice;
use std::time::Duration;

use bursar_testbed::until;
use bursar_vault::{Clock, SystemClock, TokenSpec, UserSpec};
use bursar_wire::v1alpha1::event::Event;

use crate::support::broker::Broker;
use crate::support::cluster::issuer;
use crate::support::replica::Replica;
use crate::support::{Bed, DEADLINE, Team, consumer, token, user};

struct Scene {
    bed: Bed,
    replica: Replica,
    team: Team,
    ana: UserSpec,
    github: TokenSpec,
    broker: Broker,
}

impl Scene {
    async fn new(hint: &str) -> Self {
        let bed = Bed::new(hint).await;
        let team = bed.team("team").await;
        let mut ana = user("ana");
        ana.workloads.push("other".parse().unwrap());
        bed.apply_user(&team, &ana).await;
        let mut github = token("github", &ana);
        github.consumers = Some(vec![consumer("app", None), consumer("other", None)]);
        github.expiration_time = Some("2100-01-01T00:00:00Z".parse().unwrap());
        bed.store(&team, &github, "one").await;
        // Behind all that: what is told below is told because of what is done below.
        let replica = bed.replica().await;
        Self {
            broker: bed.broker(&replica, &team, "app").await,
            replica,
            team,
            ana,
            github,
            bed,
        }
    }

    /// Makes the number-th way of taking something away.
    async fn take_away(&mut self, number: usize) -> &'static str {
        let (bed, team) = (&self.bed, &self.team);
        let controllers = &bed.controllers;
        let (mut ana, mut github) = (self.ana.clone(), self.github.clone());
        match number {
            0 => {
                github.through_version = Some(1.try_into().unwrap());
                bed.apply(team, &github).await;
                "revoked"
            }
            1 => {
                ana.suspended = true;
                bed.apply_user(team, &ana).await;
                "suspended"
            }
            2 => {
                ana.workloads = vec!["other".parse().unwrap()];
                bed.apply_user(team, &ana).await;
                "no workload any more"
            }
            3 => {
                github.consumers = Some(vec![consumer("other", None)]);
                bed.apply(team, &github).await;
                "no consumer any more"
            }
            4 => {
                github.consumers = Some(vec![consumer("app", Some(&["sync"]))]);
                bed.apply(team, &github).await;
                "fewer purposes"
            }
            5 => {
                github.expiration_time = Some(SystemClock.now() + Duration::from_secs(3600));
                bed.apply(team, &github).await;
                "an earlier end"
            }
            6 => {
                controllers
                    .delete_token(&team.tenant, github.id, Some(github.deletion_policy))
                    .await
                    .unwrap();
                "token deleted"
            }
            7 => {
                controllers
                    .delete_user(&team.tenant, ana.uid)
                    .await
                    .unwrap();
                "user deleted"
            }
            8 => {
                bed.team("team").await;
                "namespace recreated"
            }
            _ => panic!("no such way"),
        }
    }
}

#[tokio::test]
async fn whatever_is_taken_away_is_recalled() {
    for number in 0..=8 {
        let mut scene = Scene::new("watch_recall").await;
        let granted = scene.broker.granted("ana", "github").await;
        let (mut events, _) = scene.broker.watch().await;
        let what = scene.take_away(number).await;
        assert_eq!(events.recalled().await, [granted.allowance_id], "{what}");
        scene.replica.stop().await;
    }
}

#[tokio::test]
async fn what_was_taken_away_unwatched_is_recalled_before_synced() {
    for number in [0, 2, 6] {
        let mut scene = Scene::new("watch_resync").await;
        let granted = scene.broker.granted("ana", "github").await;
        let what = scene.take_away(number).await;
        let (_, recalled) = scene.broker.watch().await;
        assert_eq!(recalled, [granted.allowance_id], "{what}");
        scene.replica.stop().await;
    }
}

#[tokio::test]
async fn what_is_renewed_is_superseded_and_what_is_widened_forgets_denials() {
    let mut scene = Scene::new("watch_supersede").await;
    let (bed, team) = (&scene.bed, &scene.team);
    let broker = &mut scene.broker;
    let mut github = scene.github.clone();
    let first = broker.granted("ana", "github").await;
    let (mut events, recalled) = broker.watch().await;
    assert!(recalled.is_empty());

    bed.store(team, &github, "two").await;
    assert_eq!(
        events.superseded().await,
        slice::from_ref(&first.allowance_id)
    );
    let second = broker.granted("ana", "github").await;
    assert_eq!(second.version, 2);
    broker
        .report(vec![], vec![first.allowance_id])
        .await
        .unwrap();

    github.expiration_time = None;
    bed.apply(team, &github).await;
    assert_eq!(events.superseded().await, [second.allowance_id]);
    assert!(matches!(events.next().await, Event::ForgetDenials(_)));

    let mut ana = scene.ana.clone();
    ana.workloads.push("another".parse().unwrap());
    bed.apply_user(team, &ana).await;
    assert!(matches!(events.next().await, Event::ForgetDenials(_)));
    scene.replica.stop().await;
}

#[tokio::test]
async fn nobody_hears_of_another_tenant_or_of_what_it_does_not_hold() {
    let mut scene = Scene::new("watch_others").await;
    let (bed, replica) = (&scene.bed, &scene.replica);
    let elsewhere = bed.team("elsewhere").await;
    let bo = bed.user(&elsewhere, "bo").await;
    bed.token(&elsewhere, &bo, "slack").await;
    let mut foreign = bed.broker(replica, &elsewhere, "app").await;
    foreign.granted("bo", "slack").await;
    let idle = bed.broker(replica, &scene.team, "app").await;
    let granted = scene.broker.granted("ana", "github").await;
    let (mut holder, _) = scene.broker.watch().await;
    let (mut idle, _) = idle.watch().await;
    let (mut foreign, _) = foreign.watch().await;
    scene.take_away(1).await;
    assert_eq!(holder.recalled().await, [granted.allowance_id]);
    assert!(idle.loses_nothing().await && foreign.loses_nothing().await);
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_broker_that_reads_too_slowly_is_disconnected_and_brought_up_to_date() {
    let mut scene = Scene::new("watch_slow").await;
    let granted = scene.broker.granted("ana", "github").await;
    // So many that their recalls fill what TCP and HTTP/2 hold for a reader.
    let many = format!(
        "insert into allowance (tenant_id, allowance_id, incarnation_id, user_uid, user_epoch,
                                token_id, token_epoch, version, service_account_name,
                                quota_epoch, granted, expires_time)
         select tenant_id, gen_random_uuid(), incarnation_id, user_uid, user_epoch, token_id,
                token_epoch, version, service_account_name, quota_epoch, granted, expires_time
         from allowance, generate_series(2, 5000) where allowance_id = '{}'",
        granted.allowance_id
    );
    scene.bed.tamper(&many).await;
    let (mut slow, _) = scene.broker.watch().await;
    let mut other = scene.bed.broker(&scene.replica, &scene.team, "other").await;
    other.granted("ana", "github").await;
    let (mut quick, _) = other.watch().await;
    scene.take_away(0).await;
    assert_eq!(quick.recalled().await.len(), 1);

    // One more change of the same token each time.
    let recall = format!(
        "with head as (update change_head set seq = seq + 1 where shard = {} returning seq)
         insert into change (shard, seq, tenant_id, kind, token_id)
         select {0}, seq, '{}', 'Recall', '{}' from head",
        scene.team.tenant.shard(),
        scene.team.tenant.id(),
        scene.github.id
    );
    let disconnected = until(DEADLINE, Duration::ZERO, async || {
        scene.bed.tamper(&recall).await;
        sqlx::query("select pg_notify('bursar_change', '')")
            .execute(&scene.bed.sql)
            .await
            .unwrap();
        assert_eq!(quick.recalled().await.len(), 1);
        (scene.replica.metric("bursar_vault_slow_watchers_total") > 0).then_some(())
    });
    disconnected.await.expect("nobody was disconnected");
    // What was on the way still comes; then the stream ends.
    while slow.try_next().await.unwrap().is_some() {}
    let (_, recalled) = scene.broker.watch().await;
    assert_eq!(recalled.len(), 5_000);
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_log_with_a_gap_makes_everybody_watch_anew() {
    let mut scene = Scene::new("watch_gap").await;
    let granted = scene.broker.granted("ana", "github").await;
    for (what, damage) in [
        ("trimmed unread", "update change_head set seq = seq + 2"),
        ("back in time", "update change_head set seq = seq - 1"),
    ] {
        let (mut events, _) = scene.broker.watch().await;
        let shard = scene.team.tenant.shard();
        scene
            .bed
            .tamper(&format!("{damage} where shard = {shard}"))
            .await;
        let end = loop {
            match events.try_next().await.unwrap() {
                Some(_) => {}
                end => break end,
            }
        };
        assert!(end.is_none(), "{what}");
    }
    assert_eq!(scene.replica.metric("bursar_vault_resyncs_total"), 2);
    scene.take_away(0).await;
    let (_, recalled) = scene.broker.watch().await;
    assert_eq!(recalled, [granted.allowance_id]);
    scene.replica.stop().await;
}

#[tokio::test]
async fn every_replica_hears_even_with_its_connections_killed() {
    let mut scene = Scene::new("watch_replicas").await;
    let second = scene.bed.replica().await;
    let granted = scene.broker.granted("ana", "github").await;
    let mut other = scene.bed.broker(&second, &scene.team, "other").await;
    let held = other.granted("ana", "github").await;
    let (mut events, _) = scene.broker.watch().await;
    let (mut far, _) = other.watch().await;

    // Whoever listens for notifications does so no longer; and the same again
    // with every connection of the replicas, just before the revocation.
    let role = format!("usename = '{}'", scene.bed.database.runtime_role);
    let listeners = format!("from pg_stat_activity where {role} and query ilike 'listen%'");
    scene
        .bed
        .until_count(&format!("select count(*) {listeners}"), 2)
        .await;
    for whom in [listeners, format!("from pg_stat_activity where {role}")] {
        let killed = scene
            .bed
            .tamper(&format!("select pg_terminate_backend(pid) {whom}"))
            .await;
        assert!(killed >= 2);
    }
    let mut gone = scene.ana.clone();
    gone.suspended = true;
    let revoked = until(DEADLINE, Duration::from_millis(10), async || {
        let applied = scene
            .bed
            .controllers
            .apply_user(&scene.team.tenant, &gone)
            .await;
        applied.ok()
    });
    revoked.await.unwrap();
    assert_eq!(events.recalled().await, [granted.allowance_id]);
    assert_eq!(far.recalled().await, [held.allowance_id]);
    scene.replica.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn the_issuer_as_it_is_now_is_told_before_synced() {
    let bed = Bed::new("watch_issuer").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let broker = bed.broker(&replica, &team, "app").await;
    // Its keys change while nobody watches.
    let (mut told, _) = bed.broker(&replica, &team, "app").await.watch().await;
    bed.cluster.issuer.send_replace(issuer([bed.cluster.ec]));
    let new = told.new_issuer().await;
    let mut events = broker.try_watch().await.unwrap();
    assert_eq!(events.new_issuer().await, new);
    assert!(matches!(events.next().await, Event::Synced(_)));
    replica.stop().await;
}
