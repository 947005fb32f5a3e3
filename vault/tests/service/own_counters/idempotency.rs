//! One key is one request, however often it is sent.

use std::time::Duration;

use bursar_vault::QuotaSpec;
use bursar_vault::rows::Subject;
use bursar_vault::service::Settings;
use bursar_wire::v1alpha1::denied::Code;
use futures::future::join_all;

use super::{UPLOADS, apply, code, scene, uploads, used};
use crate::support::{Bed, CHARGED, user};

#[tokio::test]
async fn a_repeated_key_gets_the_same_answer_and_is_counted_once_also_at_the_same_time() {
    let bed = Bed::new("own_repeated").await;
    let (team, _, replica, broker) = scene(&bed, 100).await;
    let other_replica = bed.replica().await;
    let other_pod = bed.broker(&other_replica, &team, "app").await;
    let at_once = (0..20).map(|number| {
        let broker = if number % 2 == 0 { &broker } else { &other_pod };
        broker.consume(UPLOADS, 3, "same")
    });
    let answers = join_all(at_once).await;
    let first = answers[0].clone().unwrap().unwrap();
    assert_eq!((first.quotas[0].used, first.quotas[0].limit), (3, 100));
    for answer in answers {
        assert_eq!(answer.unwrap().unwrap(), first);
    }
    assert_eq!(bed.count(CHARGED).await, 3);
    // Also when the count has gone on since.
    assert_eq!(used(broker.consume(UPLOADS, 1, "next").await.unwrap()), [4]);
    let again = other_pod.consume(UPLOADS, 3, "same").await.unwrap();
    assert_eq!(again.unwrap(), first);
    assert_eq!(bed.count(CHARGED).await, 4);
    replica.stop().await;
    other_replica.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_user_caller_and_counter() {
    let bed = Bed::new("own_reused").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut ana = user("ana");
    ana.workloads = vec!["app".parse().unwrap(), "other".parse().unwrap()];
    bed.apply_user(&team, &ana).await;
    bed.user(&team, "bo").await;
    let limits = [
        uploads("uploads", Subject::EachUser, 100),
        QuotaSpec {
            counter: "mailsSent".parse().unwrap(),
            ..uploads("mails", Subject::EachUser, 100)
        },
    ];
    apply(&bed, &team, &limits.each_ref()).await;
    let broker = bed.broker(&replica, &team, "app").await;
    assert_eq!(used(broker.consume(UPLOADS, 2, "k").await.unwrap()), [2]);
    for answer in [
        broker.consume(UPLOADS, 3, "k").await,
        broker.release(UPLOADS, 2, "k").await,
    ] {
        assert_eq!(code(answer.unwrap()), Code::IdempotencyKeyReused);
    }
    assert_eq!(bed.count(CHARGED).await, 2);
    // None of these is the same request.
    let other = bed.broker(&replica, &team, "other").await;
    assert_eq!(used(other.consume(UPLOADS, 2, "k").await.unwrap()), [4]);
    let mails = ("ana", "mailsSent");
    assert_eq!(used(broker.consume(mails, 2, "k").await.unwrap()), [2]);
    let bos = ("bo", "filesUploaded");
    assert_eq!(used(broker.consume(bos, 2, "k").await.unwrap()), [2]);
    replica.stop().await;
}

#[tokio::test]
async fn a_consumption_whose_caller_went_away_is_counted_once_when_it_is_sent_again() {
    let bed = Bed::new("own_lost").await;
    let (_, _, replica, broker) = scene(&bed, 100).await;
    broker.consume(UPLOADS, 1, "first").await.unwrap().unwrap();
    for round in 0..20 {
        let key = format!("lost-{round}");
        let (lost, name) = (broker.clone(), key.clone());
        let asking = tokio::spawn(async move { lost.consume(UPLOADS, 1, &name).await });
        // Before, while or after it is counted.
        tokio::time::sleep(Duration::from_millis(round)).await;
        asking.abort();
        broker.consume(UPLOADS, 1, &key).await.unwrap().unwrap();
    }
    assert_eq!(bed.count(CHARGED).await, 21);
    replica.stop().await;
}

#[tokio::test]
async fn keys_are_forgotten_after_a_day_and_not_before() {
    let bed = Bed::new("own_trimmed").await;
    let (team, _, replica, broker) = scene(&bed, 10).await;
    broker.consume(UPLOADS, 1, "old").await.unwrap().unwrap();
    broker.consume(UPLOADS, 1, "new").await.unwrap().unwrap();
    bed.tamper(
        "update idempotency_key
         set counted_time = now() - interval '24 hours' + interval '10 minutes' *
             case idempotency_key when 'old' then -1 else 1 end",
    )
    .await;
    let quick = Settings {
        trim_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let trimming = bed.replica_with(quick).await;
    let keys = "select count(*) from idempotency_key";
    bed.until_count(keys, 1).await;
    assert_eq!(
        bed.texts("select idempotency_key from idempotency_key")
            .await,
        ["new"]
    );
    let broker = bed.broker(&trimming, &team, "app").await;
    assert_eq!(used(broker.consume(UPLOADS, 1, "old").await.unwrap()), [3]);
    replica.stop().await;
    trimming.stop().await;
}
