//! How much is counted, and in which windows.

use std::num::NonZeroU32;

use bursar_vault::QuotaSpec;
use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::{Denied, Quotas};
use futures::future::join_all;

use super::{UPLOADS, apply, code, scene, uploads, used};
use crate::support::{Bed, CHARGED};

#[tokio::test]
async fn fifty_consumers_over_five_brokers_get_just_what_all_quotas_cover() {
    let bed = Bed::new("own_fifty").await;
    let (first, second) = (bed.replica().await, bed.replica().await);
    let team = bed.team("team").await;
    let (ana, bo) = (bed.user(&team, "ana").await, bed.user(&team, "bo").await);
    let app = Subject::ServiceAccount("app".parse().unwrap());
    let limits = [
        uploads("of-ana", Subject::User(ana.uid), 90),
        uploads("of-each", Subject::EachUser, 70),
        uploads("of-app", app, 120),
    ];
    apply(&bed, &team, &limits.each_ref()).await;
    let mut brokers = Vec::new();
    for replica in [&first, &second, &first, &second, &first] {
        brokers.push(bed.broker(replica, &team, "app").await);
    }
    let consumers = (0..50).map(|number: usize| {
        let broker = brokers[number % 5].clone();
        async move {
            let user = if number < 25 { "ana" } else { "bo" };
            let mut got = 0;
            for attempt in 0..4 {
                let amount = 1 + u64::try_from(number % 3).unwrap();
                let key = format!("{number}-{attempt}");
                let counter = (user, "filesUploaded");
                match broker.consume(counter, amount, &key).await.unwrap() {
                    Ok(_) => got += amount,
                    Err(denied) => assert_eq!(denied.code(), Code::QuotaExhausted),
                }
            }
            got
        }
    });
    let got: Vec<u64> = join_all(consumers).await;
    let (mut anas, mut bos): (u64, u64) = (got[..25].iter().sum(), got[25..].iter().sum());
    // What two or three units did not fit into.
    for (user, got) in [("ana", &mut anas), ("bo", &mut bos)] {
        let counter = (user, "filesUploaded");
        for number in 0.. {
            let key = format!("rest-{number}");
            match brokers[0].consume(counter, 1, &key).await.unwrap() {
                Ok(_) => *got += 1,
                Err(_) => break,
            }
        }
    }
    assert_eq!(
        anas + bos,
        120,
        "no quota refuses one unit while all cover it"
    );
    assert!(anas <= 90 && bos <= 70, "{anas} and {bos}");
    let charged = |subject: &str| {
        let like = format!("filesUploaded of {subject}");
        format!("select charged from quota_window where description = '{like}'")
    };
    for (subject, expected) in [
        (format!("User {}", ana.uid), anas),
        (format!("User {}", bo.uid), bos),
        ("ServiceAccount app".to_owned(), 120),
    ] {
        let charged = bed.count(&charged(&subject)).await;
        assert_eq!(charged.unsigned_abs(), expected, "{subject}");
    }
    let beyond = "select count(*) from quota_window where charged > cap";
    assert_eq!(bed.count(beyond).await, 0);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_window_is_made_with_its_end_so_that_it_can_be_trimmed() {
    let bed = Bed::new("own_window_end").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let daily = QuotaSpec {
        window: Window::Period(NonZeroU32::new(86_400).unwrap()),
        ..uploads("daily", Subject::User(ana.uid), 5)
    };
    let lifetime = uploads("lifetime", Subject::EachUser, 5);
    apply(&bed, &team, &[&daily, &lifetime]).await;
    let broker = bed.broker(&replica, &team, "app").await;
    assert_eq!(used(broker.consume(UPLOADS, 2, "a").await.unwrap()), [2, 2]);
    let windows = "select count(*) from quota_window where case window_no when 0
                   then end_time is null
                   else extract(epoch from end_time) = (window_no + 1) * 86400 end";
    assert_eq!(bed.count(windows).await, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_window_that_ended_while_another_was_waited_for_is_not_counted_in() {
    let bed = Bed::new("own_rolled_over").await;
    let (team, mut limit, replica, broker) = scene(&bed, 100).await;
    let lifetime = limit.clone();
    limit = uploads("short", lifetime.subject.clone(), 2);
    limit.window = Window::Period(NonZeroU32::new(4).unwrap());
    apply(&bed, &team, &[&lifetime, &limit]).await;
    let into_window = "select floor(extract(epoch from clock_timestamp()))::bigint % 4";
    bed.until_count(into_window, 0).await;
    broker.consume(UPLOADS, 2, "early").await.unwrap().unwrap();

    let held = bed.lock("quota_window").await;
    let asking = broker.clone();
    let asking = tokio::spawn(async move { asking.consume(UPLOADS, 1, "late").await });
    let ended = "select count(*) from quota_window
                 where to_timestamp((window_no + 1) * 4) <= clock_timestamp() and window_no > 0";
    bed.until_count(ended, 1).await;
    held.commit().await.unwrap();
    let answer = asking.await.unwrap().unwrap();
    assert_eq!(used(answer), [1, 3], "the next window has two of its own");
    let ended = "select max(charged) from quota_window where window_no =
                     (select min(window_no) from quota_window where window_no > 0)";
    assert_eq!(bed.count(ended).await, 2);
    replica.stop().await;
}

#[tokio::test]
async fn what_is_released_is_what_was_used_in_the_present_window_and_no_more() {
    let bed = Bed::new("own_release").await;
    let (team, limit, replica, broker) = scene(&bed, 10).await;
    let mut hourly = uploads("hourly", limit.subject.clone(), 10);
    hourly.window = Window::Period(NonZeroU32::new(3_600).unwrap());
    apply(&bed, &team, &[&limit, &hourly]).await;
    broker.consume(UPLOADS, 6, "a").await.unwrap().unwrap();
    let released = |answer: Result<Quotas, Denied>| -> Vec<(u64, u64)> {
        let quotas = answer.unwrap().quotas;
        quotas.iter().map(|it| (it.released, it.used)).collect()
    };
    let answer = broker.release(UPLOADS, 4, "r").await.unwrap();
    assert_eq!(released(answer), [(4, 2), (4, 2)]);
    let again = broker.release(UPLOADS, 4, "r").await.unwrap();
    assert_eq!(released(again), [(4, 2), (4, 2)], "once under one key");
    assert_eq!(bed.count(CHARGED).await, 4);
    // An hour passes: of its use nothing can be given back, and of the next nothing is used.
    bed.tamper("update quota_window set window_no = window_no - 1 where window_no > 0")
        .await;
    let answer = broker.release(UPLOADS, 4, "s").await.unwrap();
    assert_eq!(released(answer), [(0, 0), (2, 0)]);
    let past = "select max(charged) from quota_window";
    assert_eq!(bed.count(past).await, 2);
    assert_eq!(
        used(broker.consume(UPLOADS, 10, "b").await.unwrap()),
        [10, 10]
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_count_that_only_warns_has_no_end_and_amounts_have() {
    let bed = Bed::new("own_warn").await;
    let (team, mut limit, replica, broker) = scene(&bed, 1).await;
    limit.enforcement = Enforcement::Warn;
    bed.apply_quota(&team, &limit).await;
    let most = 1_000_000_000;
    assert_eq!(
        used(broker.consume(UPLOADS, most, "a").await.unwrap()),
        [most]
    );
    bed.tamper("update quota_window set charged = 9223372036854775807")
        .await;
    let full = i64::MAX.unsigned_abs();
    assert_eq!(
        used(broker.consume(UPLOADS, most, "b").await.unwrap()),
        [full]
    );
    limit.enforcement = Enforcement::Enforce;
    bed.apply_quota(&team, &limit).await;
    let refused = broker.consume(UPLOADS, 1, "c").await.unwrap();
    assert_eq!(code(refused), Code::QuotaExhausted);
    for (counter, amount, key) in [
        (UPLOADS, 0, "k"),
        (UPLOADS, most + 1, "k"),
        (UPLOADS, u64::MAX, "k"),
        (UPLOADS, 1, ""),
        (UPLOADS, 1, "a b"),
        (("ana", "accesses"), 1, "k"),
        (("ana", "Files"), 1, "k"),
        (("Ana", "filesUploaded"), 1, "k"),
    ] {
        let refused = broker.consume(counter, amount, key).await.unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::InvalidArgument,
            "{counter:?} {amount} {key}"
        );
    }
    replica.stop().await;
}
