//! Stored answers to consumptions that somebody changes by SQL: never more than the
//! limit, and no answer that says so.

use bursar_vault::QuotaSpec;
use bursar_vault::rows::Subject;

use super::{UPLOADS, apply, uploads};
use crate::support::{Bed, quota, user};

/// A column of the row, and what it is changed to.
const TAMPERED: [(&str, &str); 10] = [
    (
        "user_uid",
        "(select user_uid from token_user where name = 'bo')",
    ),
    ("service_account_name", "'other'"),
    ("counter", "'mailsSent'"),
    ("idempotency_key", "'moved'"),
    ("operation", "'Release'"),
    ("amount", "3"),
    ("counted_time", "counted_time + interval '1 second'"),
    ("answer", "'\\x'"),
    ("key_version", "2"),
    ("mac", "sha256(mac)"),
];

#[tokio::test]
async fn no_column_of_a_stored_answer_can_be_changed_by_sql_for_more() {
    let bed = Bed::new("own_rows").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    for name in ["ana", "bo"] {
        let mut spec = user(name);
        spec.workloads = vec!["app".parse().unwrap(), "other".parse().unwrap()];
        bed.apply_user(&team, &spec).await;
    }
    let limits = ["filesUploaded", "mailsSent"].map(|counter| QuotaSpec {
        counter: counter.parse().unwrap(),
        ..quota(&counter.to_lowercase(), Subject::EachUser, 3)
    });
    apply(&bed, &team, &limits.each_ref()).await;
    let brokers = [
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "other").await,
    ];
    // Two of three are used everywhere, so that two more are never to be had.
    let counters = [UPLOADS, ("ana", "mailsSent"), ("bo", "filesUploaded")];
    for counter in counters {
        brokers[0]
            .consume(counter, 2, "before")
            .await
            .unwrap()
            .unwrap();
    }
    bed.tamper(
        "delete from idempotency_key where not (counter = 'filesUploaded'
                and user_uid = (select user_uid from token_user where name = 'ana'))",
    )
    .await;
    for (column, value) in TAMPERED {
        bed.tamper("create table saved as table idempotency_key")
            .await;
        let update = format!("update idempotency_key set {column} = {value}");
        assert_eq!(bed.tamper(&update).await, 1, "{column}");
        for broker in &brokers {
            for counter in counters {
                for (key, amount) in [("before", 2), ("moved", 2), ("before", 3)] {
                    let consumed = broker.consume(counter, amount, key).await.unwrap();
                    assert!(consumed.is_err(), "{column}: {consumed:?}");
                }
            }
        }
        let released = brokers[0].release(counters[0], 3, "before").await.unwrap();
        if column != "user_uid"
            && column != "service_account_name"
            && column != "counter"
            && column != "idempotency_key"
        {
            assert!(released.is_err(), "{column}: {released:?}");
        }
        let failures =
            "select count(*) from integrity_failure where table_name = 'idempotency_key'";
        assert_eq!(bed.count(failures).await, 1, "{column}");
        bed.tamper("delete from idempotency_key").await;
        bed.tamper("insert into idempotency_key table saved").await;
        bed.tamper("drop table saved").await;
        bed.tamper("delete from integrity_failure").await;
        bed.tamper("update quota_window set charged = 2").await;
    }
    // Put back, it is believed again.
    let again = brokers[0].consume(counters[0], 2, "before").await.unwrap();
    assert_eq!(again.unwrap().quotas[0].used, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_stored_answer_that_somebody_made_up_is_none() {
    let bed = Bed::new("own_made_up").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    bed.user(&team, "ana").await;
    let limit = uploads("uploads", Subject::EachUser, 3);
    bed.apply_quota(&team, &limit).await;
    let broker = bed.broker(&replica, &team, "app").await;
    broker.consume(UPLOADS, 3, "paid").await.unwrap().unwrap();
    // The answer to a key that was paid for, under other keys.
    bed.tamper(
        "insert into idempotency_key
         select tenant_id, user_uid, service_account_name, counter, name, operation, amount,
                counted_time, answer, key_version, mac
         from idempotency_key, unnest(array['one', 'two']) as name",
    )
    .await;
    for key in ["one", "two", "one"] {
        let answer = broker.consume(UPLOADS, 3, key).await.unwrap();
        assert!(answer.is_err(), "{answer:?}");
    }
    let failures = "select count(*) from integrity_failure where table_name = 'idempotency_key'";
    assert_eq!(bed.count(failures).await, 2);
    // Taken away, it is a request like any other.
    bed.tamper("delete from idempotency_key").await;
    let answer = broker.consume(UPLOADS, 3, "paid").await.unwrap();
    assert!(answer.is_err(), "{answer:?}");
    replica.stop().await;
}
