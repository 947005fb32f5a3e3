//! Quotas, to their last unit and no further.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use bursar_broker::clock::{BootTime, Clock, SystemClock, UnixMillis};
use bursar_vault::rows::Window;
use futures::future::join_all;
use serde_json::json;

use crate::support::until;
use crate::{MINUTE, with_vault};

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
                429 => {
                    assert_eq!(answer.code(), "QuotaExhausted");
                    let detail = answer.json()["detail"].to_string();
                    assert!(detail.contains("raised of TokenQuota limit"), "{detail}");
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(served, 25);
        let exhausted = |name: &str| json!([name, false, "QuotaExhausted"]);
        let described = async || {
            let answer = broker.status("ana").await.json();
            let seen = answer["tokens"].as_array().unwrap().iter();
            let seen = seen.map(|it| json!([it["name"], it["usable"], it["reason"]]));
            (answer["has_token"].clone(), seen.collect::<Vec<_>>())
        };
        until("the status says so", async || {
            described().await == (json!(false), vec![exhausted("github"), exhausted("slack")])
        })
        .await;
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
