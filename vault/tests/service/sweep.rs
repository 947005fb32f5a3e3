//! The sweep: what brokers never accounted for, who stayed away, and how many there are.

use std::time::Duration;

use bursar_testbed::until;
use bursar_vault::service::{ReviewError, Settings};
use bursar_wire::v1alpha1::denied::Code as Denied;
use tonic::Code;

use crate::support::broker::{Broker, served};
use crate::support::cluster::Pod;
use crate::support::{Bed, DEADLINE};

fn quick() -> Settings {
    Settings {
        lapse_grace: Duration::from_secs(1),
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// The partition of access records of so many days from now.
async fn partition(bed: &Bed, days: i32) -> String {
    let name = format!(
        "select 'access_record_' || to_char(now() at time zone 'UTC' + interval '{days} days',
                                            'YYYYMMDD')"
    );
    bed.texts(&name).await.remove(0)
}

/// Waits for two whole sweeps and more: each makes a partition that is missing.
async fn swept(bed: &Bed) {
    let third = partition(bed, 3).await;
    for _ in 0..3 {
        bed.tamper(&format!("drop table {third}")).await;
        bed.until_count(&format!("select count(to_regclass('{third}'))"), 1)
            .await;
    }
}

#[tokio::test]
async fn what_is_never_accounted_for_is_recorded_once_and_corrected_by_a_late_report() {
    let bed = Bed::with_lease("sweep", Duration::from_secs(1)).await;
    let (replica, second) = (
        bed.replica_with(quick()).await,
        bed.replica_with(quick()).await,
    );
    let (team, ..) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let first = broker.granted("ana", "github").await;
    let second_grant = broker.granted("ana", "github").await;
    broker
        .report(vec![served(&first, 10)], vec![])
        .await
        .unwrap();

    // Both replicas sweep.
    let lapsed = "select count(*) from allowance where state = 'Lapsed'";
    bed.until_count(lapsed, 2).await;
    let unaccounted = "select coalesce(sum(count), 0)::bigint from access_record
                       where outcome = 'Unaccounted' and report_seq is null";
    assert_eq!(bed.count(unaccounted).await, 190);
    let records = "select count(*) from access_record where outcome = 'Unaccounted'";
    assert_eq!(bed.count(records).await, 2);
    let metric = "bursar_vault_unaccounted_accesses_total";
    assert_eq!(replica.metric(metric) + second.metric(metric), 190);
    let metric = "bursar_vault_allowances_lapsed_total";
    assert_eq!(replica.metric(metric) + second.metric(metric), 2);
    // And the one of the report.
    let metric = "bursar_vault_records_total";
    assert_eq!(replica.metric(metric) + second.metric(metric), 3);
    let reports = "bursar_vault_call_duration_seconds_count{call=\"Report\"}";
    assert_eq!(replica.metric(reports), 1);

    // The broker was cut off and comes back with what it served.
    let closed = vec![first.allowance_id.clone()];
    broker
        .report(vec![served(&first, 30)], closed)
        .await
        .unwrap();
    broker
        .report(vec![served(&second_grant, 5)], vec![])
        .await
        .unwrap();
    let accounted = "select coalesce(sum(count), 0)::bigint from access_record
                     where outcome = 'Accounted'";
    assert_eq!(bed.count(accounted).await, 90 + 5);
    let balance = format!(
        "select count(*) from allowance where allowance_id = '{}' and state = 'Closed'
             and used = 40 and returned = 60",
        first.allowance_id
    );
    assert_eq!(bed.count(&balance).await, 1);
    assert_eq!(bed.count(lapsed).await, 1);
    assert_eq!(bed.count(unaccounted).await, 190);
    replica.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn nothing_lapses_before_brokers_had_time_to_report_to_this_replica() {
    let bed = Bed::with_lease("sweep_contact", Duration::from_secs(1)).await;
    let (team, ..) = bed.team_with_token().await;
    let replica = bed.replica().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.granted("ana", "github").await;
    replica.stop().await;
    bed.tamper("update allowance set expires_time = now() - interval '1 day'")
        .await;

    // It has swept many times, but not for as long as the grace is.
    let settings = Settings {
        lapse_grace: Duration::from_secs(3600),
        ..quick()
    };
    let replica = bed.replica_with(settings).await;
    swept(&bed).await;
    assert_eq!(
        bed.count("select count(*) from allowance where state = 'Open'")
            .await,
        1
    );
    assert_eq!(replica.metric("bursar_vault_allowances_open"), 1);
    replica.stop().await;
}

#[tokio::test]
async fn one_incarnation_that_cannot_be_swept_does_not_stop_the_others() {
    let bed = Bed::with_lease("sweep_broken", Duration::from_secs(1)).await;
    let (team, ..) = bed.team_with_token().await;
    let replica = bed.replica_with(quick()).await;
    let mut brokers = [
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "app").await,
    ];
    for broker in &mut brokers {
        broker.granted("ana", "github").await;
    }
    // No record can be added to those of the one whose turn comes first, and the
    // next one's row is in other hands.
    brokers.sort_by_key(super::support::broker::Broker::incarnation_uuid);
    let broken = format!(
        "insert into audit_chain (tenant_id, chain_id, record_no, recorded_time, mac)
         select tenant_id, incarnation_id, 9223372036854775807, now(), mac
         from incarnation where incarnation_id = '{}'",
        brokers[0].incarnation_uuid()
    );
    assert_eq!(bed.tamper(&broken).await, 1);
    let skipped = brokers[1].incarnation_uuid();
    let skipped = format!("incarnation where incarnation_id = '{skipped}'");
    let elsewhere = bed.lock(&skipped).await;
    let lapsed = "select count(*) from allowance where state = 'Lapsed'";
    bed.until_count(lapsed, 1).await;
    // Under load its allowance may end a round later than the others'.
    let failed = until(DEADLINE, Duration::from_millis(10), async || {
        (replica.metric("bursar_vault_failed_sweeps_total") > 0).then_some(())
    });
    failed.await.expect("the broken one was swept");
    elsewhere.rollback().await.unwrap();
    bed.until_count(lapsed, 2).await;
    replica.stop().await;
}

#[tokio::test]
async fn who_is_overdue_is_ended_only_after_it_had_time_to_come_back() {
    let bed = Bed::new("sweep_overdue").await;
    let team = bed.team("team").await;
    let replica = bed.replica().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    replica.stop().await;
    bed.tamper("update incarnation set review_due_time = now() - interval '1 day'")
        .await;

    // It sweeps, but has not had the database for a period and its grace.
    let replica = bed.replica_with(quick()).await;
    swept(&bed).await;
    let fenced = "select count(*) from incarnation where fenced_time is not null";
    assert_eq!(bed.count(fenced).await, 0);
    replica.stop().await;

    // One that has had it for as long as these are set to.
    let settings = Settings {
        review_period: Duration::from_millis(500),
        review_grace: Duration::from_millis(500),
        ..quick()
    };
    let replica = bed.replica_with(settings).await;
    // Somebody else has the row at first; the sweep goes on without it.
    let elsewhere = bed.lock("incarnation").await;
    let mut other = bed.broker(&replica, &team, "app").await;
    bed.until_count(fenced, 1).await;
    elsewhere.rollback().await.unwrap();
    bed.until_count(fenced, 2).await;
    for broker in [&mut broker, &mut other] {
        let mut moved = broker.unattached(&replica, &bed.authority).await;
        assert!(!moved.attach_again().await.unwrap().resumed);
    }
    replica.stop().await;
}

#[tokio::test]
async fn when_many_are_attached_each_is_reviewed_less_often() {
    let bed = Bed::new("sweep_attached").await;
    let replica = bed.replica_with(quick()).await;
    let team = bed.team("team").await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    // With 6,000 others, wherever they attached, ten a second take 600 seconds.
    let many = "insert into incarnation (tenant_id, incarnation_id, pod_uid, pod_name,
                    service_account_name, service_account_uid, review_due_time, key_version, mac)
                select tenant_id, gen_random_uuid(), 'pod ' || n, pod_name,
                       service_account_name, service_account_uid, review_due_time, key_version, mac
                from incarnation, generate_series(1, 6000) n";
    assert_eq!(bed.tamper(many).await, 6_000);
    let again = until(DEADLINE, Duration::from_millis(50), async || {
        let answer = broker.attach_again().await.unwrap();
        // Of 5 minutes it would be less than this.
        (answer.attach_again_ms >= 300_000).then_some(answer.attach_again_ms)
    });
    let again = again.await.expect("the others are not counted");
    assert!((360_000..=570_000).contains(&again), "{again}");
    // Those that are over do not count.
    let over = "update incarnation set fenced_time = now() where pod_uid like 'pod %'";
    assert_eq!(bed.tamper(over).await, 6_000);
    let again = until(DEADLINE, Duration::from_millis(50), async || {
        let mut another = Broker::connect(&replica, &bed.authority).await;
        let token = bed.cluster.token(&Pod::new(&team, "app"));
        let again = another.attach(&token).await.unwrap().attach_again_ms;
        (again < 300_000).then_some(())
    });
    again.await.expect("those that are over are counted");
    replica.stop().await;
}

#[tokio::test]
async fn an_incarnation_that_stays_away_is_ended() {
    let bed = Bed::new("sweep_stayed_away").await;
    let usual = bed.replica().await;
    let team = bed.team("team").await;
    let mut stays = bed.broker(&usual, &team, "app").await;
    let settings = Settings {
        review_grace: Duration::ZERO,
        review_period: Duration::ZERO,
        ..quick()
    };
    let replica = bed.replica_with(settings).await;
    let mut gone = [
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "app").await,
    ];
    let fenced = "select count(*) from incarnation where fenced_time is not null";
    bed.until_count(fenced, 2).await;
    for broker in &mut gone {
        let refused = broker.ask("ana", None).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(stays.denied("ana", None).await, Denied::Forbidden);
    usual.stop().await;
    replica.stop().await;
}

#[tokio::test]
async fn who_comes_back_while_the_api_server_is_away_is_not_ended_for_it() {
    let bed = Bed::new("sweep_unreviewed").await;
    let settings = Settings {
        review_period: Duration::ZERO,
        ..Settings::default()
    };
    let usual = bed.replica_with(settings).await;
    let (team, ..) = bed.team_with_token().await;
    let pods = [Pod::new(&team, "app"), Pod::new(&team, "app")];
    let [mut stays, mut refused] = [
        Broker::connect(&usual, &bed.authority).await,
        Broker::connect(&usual, &bed.authority).await,
    ];
    let mut held = Vec::new();
    for (broker, pod) in [&mut stays, &mut refused].into_iter().zip(&pods) {
        broker.attach(&bed.cluster.token(pod)).await.unwrap();
        held.push(broker.granted("ana", "github").await);
    }
    // Of one the API server says nothing, and of the other that its pod is gone.
    let [token, gone] = pods.each_ref().map(|pod| bed.cluster.token(pod));
    bed.cluster.vouch(&token, Err(ReviewError::Unavailable));
    bed.cluster.vouch(&gone, Err(ReviewError::Refused));
    let unanswered = stays.clone().attach(&token).await.err().unwrap();
    assert_eq!(unanswered.code(), Code::Unavailable);
    let unanswered = refused.clone().attach(&gone).await.err().unwrap();
    assert_eq!(unanswered.code(), Code::Unauthenticated);

    // An hour later, and it has not ceased to try.
    bed.tamper("update incarnation set unreviewed_time = unreviewed_time + interval '1 hour'")
        .await;
    let settings = Settings {
        review_period: Duration::ZERO,
        review_grace: Duration::ZERO,
        ..quick()
    };
    let strict = bed.replica_with(settings).await;
    let fenced = "select count(*) from incarnation where fenced_time is not null";
    bed.until_count(fenced, 1).await;
    strict.stop().await;
    bed.cluster.vouch(&token, Ok(pods[0].reviewed()));
    assert!(stays.attach(&token).await.unwrap().resumed);
    let batch = vec![served(&held[0], 3)];
    stays.report(batch, vec![]).await.unwrap();
    let recorded = "select count(*) from access_record where outcome = 'Served' and count = 3";
    assert_eq!(bed.count(recorded).await, 1);
    let batch = vec![served(&held[1], 1)];
    let late = refused.report(batch, vec![]).await.err().unwrap();
    assert_eq!(late.code(), Code::Unauthenticated);
    let late = refused.ask("ana", None).await.err().unwrap();
    assert_eq!(late.code(), Code::Unauthenticated);
    assert_eq!(bed.count(fenced).await, 1);
    usual.stop().await;
}

#[tokio::test]
async fn a_missing_partition_of_the_next_days_is_made_or_else_told() {
    let bed = Bed::new("sweep_partitions").await;
    let replica = bed.replica_with(quick()).await;
    let until_ahead = async |wanted| {
        let told = until(DEADLINE, Duration::from_millis(50), async || {
            (replica.metric("bursar_vault_audit_days_ahead") == wanted).then_some(())
        });
        assert!(told.await.is_some(), "never {wanted} days ahead");
    };
    until_ahead(7).await;
    let third = partition(&bed, 3).await;
    bed.tamper(&format!("drop table {third}")).await;
    bed.until_count(&format!("select count(to_regclass('{third}'))"), 1)
        .await;
    until_ahead(7).await;

    // Still there and no partition any more: nobody but a person knows why.
    let second = partition(&bed, 2).await;
    bed.tamper(&format!(
        "alter table access_record detach partition {second}"
    ))
    .await;
    until_ahead(1).await;
    replica.stop().await;
}
