//! Refusals that brokers tell of one by one, and the reason that only the record has.

use std::time::Duration;

use bursar_vault::service::Settings;
use bursar_wire::v1alpha1::Denial;
use tonic::Code;

use crate::specs::{token, user};
use crate::support::broker::Broker;
use crate::support::cluster::Pod;
use crate::support::{Bed, consumer};

const DENIED: &str = "select count(*) from access_record where outcome = 'Denied'";
const FENCED: &str = "select count(*) from incarnation where fenced_time is not null";
const RECORDED: &str = "bursar_vault_denials_told_total{outcome=\"Recorded\"}";
const DROPPED: &str = "bursar_vault_denials_told_total{outcome=\"Dropped\"}";

/// A denial with a number of its own; a read of a token unless purpose is empty.
fn denial(number: usize, code: &str, user: &str, token: &str, purpose: &str) -> Denial {
    Denial {
        decision_id: format!("{number:032x}"),
        code: code.into(),
        user_id: user.into(),
        token: token.into(),
        app_name: if purpose.is_empty() { "" } else { "ci" }.into(),
        purpose: purpose.into(),
        time_ms: 1_800_000_000_000,
        quotas: vec![],
    }
}

fn flood(from: usize, count: usize) -> Vec<Denial> {
    let numbers = from..from + count;
    let unverified = |number| denial(number, "Unauthenticated", "", "", "");
    numbers.map(unverified).collect()
}

#[tokio::test]
async fn the_true_reason_is_recorded_and_nothing_more_told_to_the_caller() {
    let bed = Bed::new("why").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let mut github = token("github", &ana);
    github.consumers = Some(vec![consumer("app", Some(&["sync"]))]);
    bed.store(&team, &github, "one").await;
    let bo = bed.user(&team, "bo").await;
    let mut pager = token("pager", &bo);
    pager.consumers = Some(vec![consumer("other", None)]);
    bed.store(&team, &pager, "two").await;
    let mut di = user("di");
    di.workloads = vec!["other".parse().unwrap()];
    bed.apply_user(&team, &di).await;
    let mut ed = user("ed");
    ed.suspended = true;
    bed.apply_user(&team, &ed).await;
    let fi = bed.user(&team, "fi").await;
    bed.token(&team, &fi, "chat").await;
    bed.tamper("update token set provider = 'other' where name = 'chat'")
        .await;
    let gil = bed.user(&team, "gil").await;
    bed.apply(&team, &token("empty", &gil)).await;

    let cases = [
        ("Forbidden", "nobody", "x", "sync", "NoSuchUser"),
        ("Forbidden", "nobody", "", "", "NoSuchUser"),
        ("Forbidden", "ed", "", "sync", "UserSuspended"),
        ("Forbidden", "di", "", "sync", "WorkloadNotListed"),
        ("Forbidden", "di", "", "", "WorkloadNotListed"),
        ("Forbidden", "bo", "nope", "sync", "NoSuchToken"),
        ("Forbidden", "ana", "nope", "sync", "NoSuchToken"),
        ("Forbidden", "bo", "pager", "sync", "NotAConsumer"),
        ("Forbidden", "bo", "", "sync", "NotAConsumer"),
        ("Forbidden", "ana", "github", "backup", "PurposeNotListed"),
        ("Forbidden", "fi", "chat", "sync", "IntegrityFailure"),
        ("Forbidden", "gil", "empty", "sync", "TokenHasNoValue"),
        ("Forbidden", "ana", "github", "sync", "AllowedNow"),
        ("Forbidden", "ana", "", "", "AllowedNow"),
        // These say themselves why.
        ("TokenRevoked", "ana", "github", "sync", "-"),
        ("Unauthenticated", "", "", "", "-"),
        // Names of quotas are told with this one alone.
        ("QuotaExhausted", "ana", "github", "sync", "TokenQuota a, b"),
        ("QuotaExhausted", "ana", "", "", "TokenQuota a, b"),
    ];
    let told = cases
        .iter()
        .enumerate()
        .map(|(n, (code, user, token, purpose, _))| Denial {
            quotas: vec!["a".into(), "b".into()],
            ..denial(n, code, user, token, purpose)
        });
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.tell(told.collect()).await.unwrap();

    let recorded = bed
        .texts(
            "select concat_ws(' ', decision_id, code, coalesce(user_name, '-'),
                              coalesce(token_name, '-'), app_name, purpose, coalesce(reason, '-'))
             from access_record
             where outcome = 'Denied' and service_account_name = 'app' and report_seq = 1
               and first_time = last_time and first_time = to_timestamp(1800000000)
             order by record_no",
        )
        .await;
    let or_none = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    let expected: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(n, (code, user, token, purpose, reason))| {
            let app = if purpose.is_empty() { "" } else { "ci" };
            let (user, token) = (or_none(user), or_none(token));
            format!("{n:032x} {code} {user} {token} {app} {purpose} {reason}")
        })
        .collect();
    assert_eq!(recorded, expected);
    let integrity = "select count(*) from integrity_failure where table_name = 'token'";
    assert!(bed.count(integrity).await >= 1);
    replica.stop().await;
}

#[tokio::test]
async fn a_pod_tells_of_256_in_an_hour_over_all_its_runs_and_the_rest_are_dropped_and_counted() {
    let bed = Bed::new("why_flood").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let token = bed.cluster.token(&Pod::new(&team, "app"));
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    broker.attach(&token).await.unwrap();
    broker.tell(flood(0, 200)).await.unwrap();
    broker.tell(flood(200, 200)).await.unwrap();
    broker.tell(flood(400, 10)).await.unwrap();
    assert_eq!(bed.count(DENIED).await, 256);
    assert_eq!(
        (replica.metric(RECORDED), replica.metric(DROPPED)),
        (256, 154)
    );

    let mut again = Broker::connect(&replica, &bed.authority).await;
    again.attach(&token).await.unwrap();
    again.tell(flood(500, 1)).await.unwrap();
    assert_eq!(bed.count(DENIED).await, 256);
    let mut other = bed.broker(&replica, &team, "app").await;
    other.tell(flood(600, 1)).await.unwrap();
    assert_eq!(bed.count(DENIED).await, 257);

    bed.tamper("update denial_told set since_time = since_time - interval '1 hour'")
        .await;
    again.tell(flood(700, 300)).await.unwrap();
    assert_eq!(bed.count(DENIED).await, 257 + 256);
    replica.stop().await;
}

#[tokio::test]
async fn what_no_broker_writes_ends_the_incarnation_and_is_not_stored() {
    let bed = Bed::new("why_forged").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let forged: [fn(&mut Denial); 4] = [
        |it| it.user_id = "Planted-secret".into(),
        |it| it.purpose = "sync\nPlanted-secret".into(),
        |it| it.code = "Planted secret".into(),
        |it| it.decision_id = "Planted-secret".into(),
    ];
    for (n, forge) in forged.into_iter().enumerate() {
        let mut broker = bed.broker(&replica, &team, "app").await;
        let mut denials = vec![denial(0, "Forbidden", "ana", "", "sync"); 2];
        forge(&mut denials[1]);
        let refused = broker.tell(denials).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(bed.count(FENCED).await, i64::try_from(n).unwrap() + 1);
    }
    assert_eq!(bed.count(DENIED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_denial_is_recorded_once_however_often_its_report_comes() {
    let bed = Bed::new("why_repeated").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let denials = flood(0, 3);
    broker.tell(denials.clone()).await.unwrap();
    broker.tell_numbered(1, denials).await.unwrap();
    assert_eq!(bed.count(DENIED).await, 3);
    assert_eq!(replica.metric(RECORDED), 3);
    let changed = broker.tell_numbered(1, flood(3, 3)).await.err().unwrap();
    assert_eq!(changed.code(), Code::Unauthenticated);
    assert_eq!(bed.count(DENIED).await, 3);
    replica.stop().await;
}

#[tokio::test]
async fn only_the_next_report_is_worth_finding_out_why() {
    let bed = Bed::new("why_number").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    // Whoever looks at it leaves a trace.
    bed.tamper("update token set provider = 'other'").await;
    let looked = "select count(*) from integrity_failure";
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.tell(flood(0, 1)).await.unwrap();
    let denials = vec![denial(1, "Forbidden", "ana", "github", "sync")];
    let ahead = broker.tell_numbered(3, denials.clone()).await;
    assert_eq!(ahead.err().unwrap().code(), Code::FailedPrecondition);
    assert_eq!(bed.count(looked).await, 0);
    broker.tell(flood(1, 1)).await.unwrap();
    broker.tell_numbered(1, denials.clone()).await.unwrap();
    assert_eq!(bed.count(looked).await, 0);
    broker.tell(denials).await.unwrap();
    assert!(bed.count(looked).await > 0);
    replica.stop().await;
}

#[tokio::test]
async fn an_hour_that_is_long_over_leaves_nothing_behind() {
    let bed = Bed::new("why_trimmed").await;
    let settings = Settings {
        trim_interval: Duration::from_millis(200),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let team = bed.team("team").await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.tell(flood(0, 1)).await.unwrap();
    bed.tamper("update denial_told set since_time = since_time - interval '3 hours'")
        .await;
    bed.until_count("select count(*) from denial_told", 0).await;
    replica.stop().await;
}
