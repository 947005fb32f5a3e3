//! The broker with a real vault service and a real Postgres.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bed;
#[path = "../support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use bursar_broker::clock::{BootTime, Clock, SystemClock, UnixMillis};
use bursar_seal::TokenVersion;
use bursar_vault::rows::Window;
use futures::future::join_all;
use serde_json::json;
use tokio::task::LocalSet;

use bed::{Bed, Broker, Replica, consumer};
use support::http::Answer;
use support::issuer::SERVICE_ACCOUNT;
use support::until;

const MINUTE: Duration = Duration::from_secs(60);

async fn with_vault<F: AsyncFnOnce(&Bed, Replica)>(hint: &str, lease: Duration, test: F) {
    LocalSet::new()
        .run_until(async {
            let (bed, replica) = Bed::start(hint, lease).await;
            test(&bed, replica).await;
        })
        .await;
}

#[tokio::test]
async fn a_token_travels_from_the_store_to_a_workload_and_every_access_is_on_record() {
    with_vault("travels", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        for _ in 0..20 {
            assert_eq!(
                broker.value("ana", "github").await.as_deref(),
                Some("s3cret")
            );
        }
        assert_eq!(broker.access("ana", None).await.json()["name"], "github");
        broker.drain().await;
        assert_eq!(bed.served().await, 21);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn a_quota_is_served_to_its_last_unit_and_no_further() {
    with_vault("quota", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        bed.token(&ana, "slack", "hush").await;
        let mut limit = bed.quota(&ana, 25).await;
        let broker = bed.broker().await;
        let mut served = 0;
        // Both tokens are ana's: what is held of one is given back for the other.
        for name in ["github", "slack"].into_iter().cycle().take(30) {
            let answer = broker.access("ana", Some(name)).await;
            match answer.status {
                200 => served += 1,
                429 => assert_eq!(answer.json()["code"], "QuotaExhausted"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(served, 25);
        // More is given at once: denials are forgotten.
        limit.limit = 26;
        bed.apply_quota(&limit).await;
        until("there is more", async || {
            broker.access("ana", Some("slack")).await.status == 200
        })
        .await;
        assert_eq!(broker.access("ana", Some("slack")).await.status, 429);
        broker.drain().await;
        assert_eq!(bed.served().await, 26);
        assert_eq!(bed.count("select charged from quota_window").await, 26);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn why_a_call_was_refused_is_on_record_under_the_id_that_the_caller_was_given() {
    with_vault("why", MINUTE, async |bed, _replica| {
        let mut ana = bed.user("ana").await;
        let mut github = bed.token(&ana, "github", "s3cret").await;
        github.consumers = Some(vec![consumer(SERVICE_ACCOUNT, Some(&["backup"]))]);
        bed.apply_token(&github).await;
        let broker = bed.broker().await;
        let mut refused = Vec::new();
        let mut refuse = |answer: Answer, code: &str, reason: &str| {
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            refused.push((id, code.to_owned(), reason.to_owned()));
        };
        let answer = broker.access("nobody", None).await;
        refuse(answer, "Forbidden", "reason = 'NoSuchUser'");
        let answer = broker.status("nobody").await;
        refuse(answer, "Forbidden", "reason = 'NoSuchUser'");
        let answer = broker.access("ana", Some("github")).await;
        refuse(answer, "Forbidden", "reason = 'PurposeNotListed'");
        let answer = broker.access("Planted-Secret", None).await;
        refuse(
            answer,
            "InvalidRequest",
            "reason is null and user_name is null",
        );
        let recorded = async |(id, code, reason): &(String, String, String)| {
            let query = format!(
                "select count(*) from access_record
                 where outcome = 'Denied' and decision_id = '{id}' and code = '{code}' and {reason}"
            );
            bed.until_count(&query, 1).await;
        };
        for one in &refused {
            recorded(one).await;
        }
        ana.suspended = true;
        bed.apply_user(&ana).await;
        let answer = broker.access("ana", Some("github")).await;
        let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
        // What the broker has not told of by then it tells when it ends.
        broker.drain().await;
        recorded(&(id, "Forbidden".into(), "reason = 'UserSuspended'".into())).await;
        let planted = "select count(*) from access_record r where r::text ilike '%planted%'";
        assert_eq!(bed.count(planted).await, 0);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn ten_uploads_are_counted_whatever_becomes_of_the_database_and_the_eleventh_is_refused() {
    with_vault("uploads", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let mut limit = bed.quota(&ana, 10).await;
        limit.counter = "filesUploaded".parse().unwrap();
        bed.apply_quota(&limit).await;
        let broker = bed.broker().await;
        let count = async |call: &str, key: &str| {
            let answer = broker.count("ana", "filesUploaded", call, key).await;
            (answer.status, answer.json())
        };
        // Each is sent until it is answered, under one key, while connections are lost.
        let uploads = join_all((0..10).map(|number| {
            let (count, key) = (&count, format!("upload-{number}"));
            async move {
                loop {
                    match count("consume", &key).await {
                        (200, _) => return,
                        (503, _) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }));
        let outage = async {
            for _ in 0..3 {
                bed.shut_out().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                bed.let_in().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::join!(uploads, outage);
        assert_eq!(bed.count("select charged from quota_window").await, 10);
        let (status, refused) = count("consume", "one-more").await;
        assert_eq!((status, &refused["code"]), (429, &json!("QuotaExhausted")));
        assert!(
            refused["detail"]
                .as_str()
                .unwrap()
                .contains("TokenQuota limit")
        );
        let (status, released) = count("release", "back").await;
        assert_eq!(
            (status, &released["quotas"][0]["released"]),
            (200, &json!(1))
        );
        assert_eq!(count("consume", "one-more").await.0, 200);
        assert_eq!(bed.count("select charged from quota_window").await, 10);
        broker.drain().await;
    })
    .await;
}

#[tokio::test]
async fn many_misses_at_once_are_one_grant() {
    with_vault("misses", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        let answers = join_all((0..256).map(|_| broker.access("ana", Some("github"))));
        assert!(answers.await.iter().all(|answer| answer.status == 200));
        assert_eq!(bed.count("select count(*) from allowance").await, 1);
        broker.drain().await;
        assert_eq!(bed.served().await, 256);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn a_revocation_reaches_requests_under_way_and_nothing_is_served_after_it_is_closed() {
    with_vault("revoked", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let mut github = bed.token(&ana, "github", "s3cret").await;
        let broker = bed.broker().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        let clients = join_all((0..8).map(|_| until_refused(&broker)));
        let revoke = async {
            let some = "select least(count(*), 1) from access_record where count > 1";
            bed.until_count(some, 1).await;
            github.through_version = Some(TokenVersion::FIRST);
            bed.apply_token(&github).await;
            bed.until_count("select count(*) from allowance where state = 'Open'", 0)
                .await;
            bed.served().await
        };
        let (served, at_close) = tokio::join!(clients, revoke);
        broker.drain().await;
        let served: i64 = 1 + served.iter().sum::<i64>();
        assert_eq!((at_close, bed.served().await), (served, served));
        bed.assert_all_accounted_for().await;
    })
    .await;
}

/// Asks until the token is refused; returns how often it was served.
async fn until_refused(broker: &Broker) -> i64 {
    let mut served = 0;
    loop {
        let answer = broker.access("ana", Some("github")).await;
        if answer.status != 200 {
            assert_eq!(answer.code(), "TokenRevoked");
            return served;
        }
        served += 1;
    }
}

#[tokio::test]
async fn a_new_value_is_served_soon_and_nobody_is_refused_meanwhile() {
    with_vault("renewed", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let github = bed.token(&ana, "github", "old").await;
        let broker = bed.broker().await;
        assert_eq!(broker.value("ana", "github").await.as_deref(), Some("old"));
        bed.store(&github, "new").await;
        until("the new value is served", async || {
            broker.value("ana", "github").await.unwrap() == "new"
        })
        .await;
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_absent_not_listed_suspended_or_narrowed_away_looks_the_same() {
    with_vault("oracles", MINUTE, async |bed, _replica| {
        let open = bed.user("open").await;
        let mut narrowed = bed.token(&open, "narrowed", "s3cret").await;
        narrowed.consumers = Some(vec![consumer("another", None)]);
        bed.apply_token(&narrowed).await;
        let mut purposes = bed.token(&open, "purposes", "s3cret").await;
        purposes.consumers = Some(vec![consumer(SERVICE_ACCOUNT, Some(&["backup"]))]);
        bed.apply_token(&purposes).await;
        let mut suspended = bed.user("suspended").await;
        bed.token(&suspended, "github", "s3cret").await;
        suspended.suspended = true;
        bed.apply_user(&suspended).await;
        let mut unlisted = bed.user("unlisted").await;
        unlisted.workloads = vec!["another".parse().unwrap()];
        bed.apply_user(&unlisted).await;
        bed.token(&unlisted, "slack", "s3cret").await;

        let broker = bed.broker().await;
        assert_eq!(
            broker
                .access_for("open", Some("purposes"), "backup")
                .await
                .status,
            200
        );
        let mut bodies = HashSet::new();
        for (user, token) in [
            ("absent", Some("github")),
            ("absent", None),
            ("suspended", Some("github")),
            ("suspended", None),
            ("unlisted", Some("slack")),
            ("unlisted", Some("absent")),
            ("open", Some("narrowed")),
            ("open", Some("absent")),
            ("open", Some("purposes")),
        ] {
            let answer = broker.access(user, token).await;
            assert_eq!(answer.status, 403, "{user} {token:?}");
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            bodies.insert(String::from_utf8(answer.body).unwrap().replace(&id, ""));
        }
        for user in ["absent", "suspended", "unlisted"] {
            let answer = broker.status(user).await;
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            bodies.insert(String::from_utf8(answer.body).unwrap().replace(&id, ""));
        }
        assert_eq!(bodies.len(), 1, "{bodies:#?}");
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn the_entitled_are_told_what_is_wrong() {
    with_vault("told", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let broker = bed.broker().await;
        assert_eq!(
            broker.access("ana", Some("absent")).await.code(),
            "TokenNotFound"
        );
        bed.token(&ana, "github", "one").await;
        bed.token(&ana, "slack", "two").await;
        until("the tokens are known", async || {
            broker.access("ana", None).await.code() == "TokenAmbiguous"
        })
        .await;
        assert_eq!(
            broker.access("ana", None).await.json()["tokens"],
            json!(["github", "slack"])
        );
        let status = broker.status("ana").await.json();
        assert_eq!(status["has_token"], true);
        assert_eq!(status["tokens"][0]["name"], "github");
        assert_eq!(status["tokens"][0]["reason"], "Serving");
        assert_eq!(status["tokens"][1]["version"], 1);
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn while_postgres_is_away_leases_are_served_to_their_end_and_nothing_is_lost() {
    with_vault("outage", Duration::from_secs(3), async |bed, _replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        bed.token(&ana, "slack", "s3cret").await;
        let broker = bed.broker().await;
        let served = Cell::new(0);
        let serves = async || {
            let answer = broker.access("ana", Some("github")).await;
            assert!(answer.status == 200 || answer.code() == "VaultUnavailable");
            served.set(served.get() + i64::from(answer.status == 200));
            answer.status == 200
        };
        assert!(serves().await);
        bed.shut_out().await;
        // A request that the vault cannot decide is in nobody's way later.
        assert_eq!(
            broker.access("ana", Some("slack")).await.code(),
            "VaultUnavailable"
        );
        until("the lease is over", async || !serves().await).await;
        bed.let_in().await;
        until("it is served again", serves).await;
        let served = served.get();
        broker.drain().await;
        assert_eq!(bed.served().await, served);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn another_vault_process_takes_over_where_the_first_one_ended() {
    with_vault("takeover", MINUTE, async |bed, replica| {
        let ana = bed.user("ana").await;
        bed.token(&ana, "github", "s3cret").await;
        bed.token(&ana, "slack", "s3cret").await;
        let broker = bed.broker().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        replica.stop().await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        let _replica = bed.replica();
        until("the other token is granted", async || {
            broker.access("ana", Some("slack")).await.status == 200
        })
        .await;
        assert_eq!(broker.access("ana", Some("github")).await.status, 200);
        broker.drain().await;
        assert_eq!(bed.count("select count(*) from incarnation").await, 1);
        assert_eq!(bed.served().await, 4);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

/// Half an hour ahead of everybody, on a machine that booted a day earlier.
struct WrongClock;

impl Clock for WrongClock {
    fn boot(&self) -> BootTime {
        SystemClock.boot().plus(Duration::from_secs(86_400))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(SystemClock.wall().0 + 1_800_000)
    }
}

#[tokio::test]
async fn windows_end_by_the_databases_clock_however_wrong_the_brokers_is() {
    const LIMIT: i64 = 30;
    const PERIOD: i64 = 2;
    with_vault(
        "wrong_clock",
        Duration::from_secs(3),
        async |bed, _replica| {
            let ana = bed.user("ana").await;
            bed.token(&ana, "github", "s3cret").await;
            let mut quota = bed.quota(&ana, LIMIT).await;
            quota.window = Window::Period(NonZeroU32::new(2).unwrap());
            bed.apply_quota(&quota).await;
            let broker = bed.broker_with(Box::new(WrongClock)).await;
            let (served, by_window) = (Cell::new(0), RefCell::new(HashMap::new()));
            let access = async || {
                // The machine's clock is the database's.
                let began = SystemClock.wall().seconds() / PERIOD;
                let answer = broker.access("ana", Some("github")).await;
                if answer.status != 200 {
                    assert_eq!(answer.code(), "QuotaExhausted");
                    return;
                }
                served.set(served.get() + 1);
                if SystemClock.wall().seconds() / PERIOD == began {
                    *by_window.borrow_mut().entry(began).or_insert(0) += 1;
                }
            };
            let used_up = format!("select count(*) from quota_window where charged = {LIMIT}");
            until("four windows were used up", async || {
                join_all((0..4).map(|_| access())).await;
                bed.count(&used_up).await >= 4
            })
            .await;
            broker.drain().await;
            let served = served.get();
            assert_eq!(bed.served().await, served);
            assert!(by_window.borrow().values().all(|count| *count <= LIMIT));
            let past = format!("select count(*) from quota_window where charged > {LIMIT}");
            assert_eq!(bed.count(&past).await, 0);
            bed.assert_all_accounted_for().await;
        },
    )
    .await;
}
