//! Limits that change while they are counted against.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_wire::v1alpha1::denied::Code;

use super::{UPLOADS, apply, code, scene, uploads, used};
use crate::support::{Bed, CHARGED};

#[tokio::test]
async fn a_refused_consumption_takes_nothing_and_its_key_may_succeed_later() {
    let bed = Bed::new("own_refused").await;
    let (team, mut limit, replica, broker) = scene(&bed, 5).await;
    let mut hourly = uploads("hourly", limit.subject.clone(), 3);
    hourly.window = Window::Period(NonZeroU32::new(3_600).unwrap());
    apply(&bed, &team, &[&limit, &hourly]).await;
    broker.consume(UPLOADS, 2, "a").await.unwrap().unwrap();
    let denied = broker.consume(UPLOADS, 2, "b").await.unwrap().unwrap_err();
    assert_eq!(denied.code(), Code::QuotaExhausted);
    assert_eq!(denied.quotas, ["hourly"], "the other one covers it");
    assert!(denied.retry_after_ms.is_some_and(|ms| ms <= 3_600_000));
    assert_eq!(bed.count(CHARGED).await, 4, "of both, or of none");
    // Waiting helps neither for more than there ever is, nor with a lifetime.
    for amount in [4, 6] {
        let denied = broker.consume(UPLOADS, amount, "c").await.unwrap();
        let denied = denied.unwrap_err();
        assert_eq!(denied.retry_after_ms, None);
        assert_eq!(denied.quotas, ["hourly", "uploads"]);
    }
    hourly.limit = 4;
    apply(&bed, &team, &[&limit, &hourly]).await;
    assert_eq!(used(broker.consume(UPLOADS, 2, "b").await.unwrap()), [4, 4]);
    // Lowered below what is used, it gives nothing; made anew, it has not forgotten.
    limit.limit = 3;
    apply(&bed, &team, &[&limit]).await;
    bed.delete_quota(&team, &hourly, &[]).await;
    let refused = broker.consume(UPLOADS, 1, "d").await.unwrap();
    assert_eq!(code(refused), Code::QuotaExhausted);
    bed.delete_quota(&team, &limit, &[]).await;
    let refused = broker.consume(UPLOADS, 1, "d").await.unwrap();
    assert_eq!(code(refused), Code::CounterNotFound);
    let anew = uploads("anew", limit.subject.clone(), 5);
    let state = bed.apply_quota(&team, &anew).await;
    assert_eq!((state.used, state.enforced), (Some(4), true));
    assert_eq!(used(broker.consume(UPLOADS, 1, "d").await.unwrap()), [5]);
    let refused =
        "select count(*) from denial where reason in ('QuotaExhausted', 'CounterNotFound')";
    assert_eq!(bed.count(refused).await, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_quota_that_only_warns_is_not_named_as_one_that_refuses() {
    let bed = Bed::new("own_warned").await;
    let (team, limit, replica, broker) = scene(&bed, 1).await;
    let mut warns = uploads("warns", limit.subject.clone(), limit.limit);
    warns.enforcement = Enforcement::Warn;
    apply(&bed, &team, &[&limit, &warns]).await;
    let denied = broker.consume(UPLOADS, 2, "a").await.unwrap().unwrap_err();
    assert_eq!(denied.quotas, ["uploads"]);
    replica.stop().await;
}

#[tokio::test]
async fn a_changed_limit_waits_for_no_consumer_and_holds_for_those_that_wait() {
    let bed = Bed::new("own_changed").await;
    let (team, mut limit, replica, broker) = scene(&bed, 100).await;
    broker.consume(UPLOADS, 2, "early").await.unwrap().unwrap();

    let held = bed.lock("quota_window").await;
    let asking: Vec<_> = (0..4)
        .map(|place| {
            let broker = broker.clone();
            let key = format!("late-{place}");
            tokio::spawn(async move { broker.consume(UPLOADS, 1, &key).await })
        })
        .collect();
    bed.until_waiting(4).await;
    limit.limit = 3;
    apply(&bed, &team, &[&limit]).await;
    held.commit().await.unwrap();

    let mut counted = 0;
    for asking in asking {
        counted += usize::from(asking.await.unwrap().unwrap().is_ok());
    }
    assert_eq!(counted, 1, "three less the two that were used");
    assert_eq!(bed.count(CHARGED).await, 3);
    replica.stop().await;
}

#[tokio::test]
async fn limits_change_while_consumers_never_stop() {
    let bed = Bed::new("own_busy").await;
    let (team, mut limit, replica, broker) = scene(&bed, 1_000_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = (0..16)
        .map(|place| {
            let (broker, stop) = (broker.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut counted = 0;
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("busy-{place}-{counted}");
                    broker.consume(UPLOADS, 1, &key).await.unwrap().unwrap();
                    counted += 1;
                }
                counted
            })
        })
        .collect();
    for limits in 1..=20 {
        limit.limit = 1_000_000 + limits;
        apply(&bed, &team, &[&limit]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut counted = 0;
    for asking in asking {
        counted += asking.await.unwrap();
    }
    assert_eq!(bed.count(CHARGED).await, counted);
    replica.stop().await;
}

#[tokio::test]
async fn a_quota_on_another_counter_takes_nothing_from_who_reads_and_holds_at_once() {
    let bed = Bed::new("own_no_recall").await;
    let replica = bed.replica().await;
    let (team, ana, _) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.granted("ana", "github").await;
    let (mut events, _) = broker.watch().await;
    let limit = uploads("uploads", Subject::User(ana.uid), 1);
    let state = bed.apply_quota(&team, &limit).await;
    assert_eq!((state.used, state.enforced), (Some(0), true));
    assert!(events.loses_nothing().await);
    let good = "select count(*) from allowance_standing where standing = 'Good'";
    assert_eq!(bed.count(good).await, 1);
    replica.stop().await;
}
