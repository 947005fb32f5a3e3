//! Counters that workloads keep themselves: exact, and counted once for each key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::service::Settings;
use bursar_vault::{QuotaId, QuotaSpec};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::{Denied, Quotas};
use futures::future::join_all;

use crate::support::broker::Broker;
use crate::support::{Bed, Team, consumer, quota, token, user};

const UPLOADS: (&str, &str) = ("ana", "filesUploaded");
const CHARGED: &str = "select coalesce(sum(charged), 0)::bigint from quota_window";

/// A quota on files uploaded, for all time and enforced.
fn uploads(name: &str, subject: Subject, limit: i64) -> QuotaSpec {
    QuotaSpec {
        counter: UPLOADS.1.parse().unwrap(),
        ..quota(name, subject, limit)
    }
}

fn code(answer: Result<Quotas, Denied>) -> Code {
    answer.expect_err("counted").code()
}

/// What is used of each quota after an answer.
fn used(answer: Result<Quotas, Denied>) -> Vec<u64> {
    let quotas = answer.expect("denied").quotas;
    quotas.iter().map(|quota| quota.used).collect()
}

/// Applies all quotas of a namespace.
async fn apply(bed: &Bed, team: &Team, quotas: &[&QuotaSpec]) {
    let ids: Vec<QuotaId> = quotas.iter().map(|quota| quota.id).collect();
    for quota in quotas {
        bed.apply_quota_of(team, quota, &ids).await;
    }
}

async fn delete(bed: &Bed, team: &Team, quota: &QuotaSpec) {
    let existing = [].into();
    let deleted = bed
        .controllers
        .delete_quota(&team.tenant, quota.id, &existing);
    deleted.await.unwrap();
}

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
    apply(&bed, &team, &[&limits[0], &limits[1], &limits[2]]).await;
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

/// `ana` with one quota of so many files, and a broker.
async fn scene(
    bed: &Bed,
    limit: i64,
) -> (Team, QuotaSpec, crate::support::replica::Replica, Broker) {
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let limit = uploads("uploads", Subject::User(ana.uid), limit);
    bed.apply_quota(&team, &limit).await;
    let broker = bed.broker(&replica, &team, "app").await;
    (team, limit, replica, broker)
}

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
    apply(&bed, &team, &[&limits[0], &limits[1]]).await;
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
    delete(&bed, &team, &hourly).await;
    let refused = broker.consume(UPLOADS, 1, "d").await.unwrap();
    assert_eq!(code(refused), Code::QuotaExhausted);
    delete(&bed, &team, &limit).await;
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

    let mut held = bed.sql.begin().await.unwrap();
    sqlx::query("select from quota_window for update")
        .execute(&mut *held)
        .await
        .unwrap();
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
async fn a_changed_limit_waits_for_no_consumer_and_holds_for_those_that_wait() {
    let bed = Bed::new("own_changed").await;
    let (team, mut limit, replica, broker) = scene(&bed, 100).await;
    broker.consume(UPLOADS, 2, "early").await.unwrap().unwrap();

    let mut held = bed.sql.begin().await.unwrap();
    sqlx::query("select from quota_window for update")
        .execute(&mut *held)
        .await
        .unwrap();
    let asking: Vec<_> = (0..4)
        .map(|place| {
            let broker = broker.clone();
            let key = format!("late-{place}");
            tokio::spawn(async move { broker.consume(UPLOADS, 1, &key).await })
        })
        .collect();
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    bed.until_count(waiting, 4).await;
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

#[tokio::test]
async fn nothing_is_counted_for_who_may_not_act_as_the_user_and_each_attempt_is() {
    let bed = Bed::new("own_forged").await;
    let (team, _, replica, _) = scene(&bed, 100).await;
    let mut eve = user("eve");
    eve.workloads = vec!["stranger".parse().unwrap()];
    eve.suspended = true;
    bed.apply_user(&team, &eve).await;
    let stranger = bed.broker(&replica, &team, "stranger").await;
    let mut denials = Vec::new();
    for name in ["ana", "absent", "eve"] {
        let counter = (name, "filesUploaded");
        denials.push(
            stranger
                .consume(counter, 1, "k")
                .await
                .unwrap()
                .unwrap_err(),
        );
        denials.push(
            stranger
                .release(counter, 1, "k")
                .await
                .unwrap()
                .unwrap_err(),
        );
        denials.push(stranger.quotas(name).await.unwrap_err());
        let nothing = stranger.consume((name, "nothing"), 1, "k").await.unwrap();
        denials.push(nothing.unwrap_err());
    }
    let forbidden = Denied {
        code: Code::Forbidden.into(),
        ..Denied::default()
    };
    assert!(
        denials.iter().all(|denied| *denied == forbidden),
        "{denials:?}"
    );
    let counted = "select count from denial
                   where service_account_name = 'stranger' and reason = 'Forbidden'";
    assert_eq!(bed.count(counted).await, 12);
    assert_eq!(bed.count(CHARGED).await, 0);
    assert_eq!(bed.count("select count(*) from idempotency_key").await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn quotas_are_described_to_whom_they_concern() {
    let bed = Bed::new("own_described").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let (ana, bo) = (bed.user(&team, "ana").await, bed.user(&team, "bo").await);
    let github = bed.token(&team, &ana, "github").await;
    let mut hidden = token("hidden", &ana);
    hidden.consumers = Some(vec![consumer("other", None)]);
    bed.store(&team, &hidden, "h").await;
    let account = |name: &str| Subject::ServiceAccount(name.parse().unwrap());
    let mut limits = [
        quota("github", Subject::Token(github.id), 100),
        quota("hidden", Subject::Token(hidden.id), 100),
        quota("of-app", account("app"), 1_000),
        quota("of-bo", Subject::User(bo.uid), 100),
        quota("of-other", account("other"), 100),
        uploads("default", Subject::EachUser, 5),
    ];
    limits[5].window = Window::Period(NonZeroU32::new(86_400).unwrap());
    limits[5].enforcement = Enforcement::Warn;
    apply(&bed, &team, &limits.each_ref()).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let units = u64::from(broker.granted("ana", "github").await.units);
    broker.consume(UPLOADS, 7, "k").await.unwrap().unwrap();
    let found = broker.quotas("ana").await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|it| (&*it.name, &*it.subject, &*it.counter, it.used, it.enforced))
        .collect();
    let expected = [
        ("default", "each user", "filesUploaded", 7, false),
        ("github", "token/github", "accesses", units, true),
        ("of-app", "serviceaccount/app", "accesses", units, true),
    ];
    assert_eq!(seen, expected);
    let default = &found[0];
    assert_eq!((default.limit, default.period_s), (5, Some(86_400)));
    let end = default.window_end_time_ms.unwrap();
    assert_eq!(end % 86_400_000, 0, "days end at midnight UTC");
    assert_eq!(
        (found[1].period_s, found[1].window_end_time_ms),
        (None, None)
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_quota_on_another_counter_takes_nothing_from_who_reads_and_holds_at_once() {
    let bed = Bed::new("own_no_recall").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    bed.token(&team, &ana, "github").await;
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
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let sweeping = bed.replica_with(quick).await;
    let keys = "select count(*) from idempotency_key";
    bed.until_count(keys, 1).await;
    assert_eq!(
        bed.texts("select idempotency_key from idempotency_key")
            .await,
        ["new"]
    );
    let broker = bed.broker(&sweeping, &team, "app").await;
    assert_eq!(used(broker.consume(UPLOADS, 1, "old").await.unwrap()), [3]);
    replica.stop().await;
    sweeping.stop().await;
}
