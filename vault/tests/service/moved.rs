//! A run that changes between the two steps in which its request is answered: read
//! without a lock, and written under one.

use std::time::Duration;

use bursar_vault::rows::Subject;
use bursar_vault::service::{Settings, Stage};
use bursar_wire::v1alpha1::GrantResponse;
use bursar_wire::v1alpha1::grant_response::Answer;
use tonic::{Code, Status};

use crate::support::broker::Broker;
use crate::support::gates::Gates;
use crate::support::{Bed, quota};

const ALLOWANCES: &str = "select count(*) from allowance";

/// Asks for ana's token, and is held up once it is decided what to answer.
async fn decided(
    gates: &Gates,
    broker: &Broker,
) -> tokio::task::JoinHandle<Result<GrantResponse, Status>> {
    gates.close_all();
    let broker = broker.clone();
    let number = broker.request_no + 1;
    let asked = tokio::spawn(async move { broker.grant_numbered(number, "ana", None, 1).await });
    gates.until_reached(Stage::GrantDecided).await;
    asked
}

#[tokio::test]
async fn a_run_that_ends_or_is_reviewed_before_its_answer_is_written_is_read_again() {
    let bed = Bed::new("moved_run").await;
    let gates = Gates::new();
    let settings = Settings {
        review_period: Duration::ZERO,
        stages: gates.clone(),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let (team, ..) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    let asked = decided(&gates, &broker).await;
    let macs = "select encode(mac, 'hex') from incarnation";
    let before = bed.texts(macs).await;
    broker.attach_again().await.unwrap();
    assert_ne!(bed.texts(macs).await, before, "it was not reviewed");
    gates.open(Stage::GrantDecided);
    gates.open(Stage::GrantCommitted);
    let answer = asked.await.unwrap().unwrap().answer.unwrap();
    assert!(matches!(answer, Answer::Granted(_)));
    assert_eq!(bed.count(ALLOWANCES).await, 1);

    broker.request_no = 1;
    let asked = decided(&gates, &broker).await;
    bed.tamper("update incarnation set fenced_time = now()")
        .await;
    gates.open(Stage::GrantDecided);
    gates.open(Stage::GrantCommitted);
    let refused = asked.await.unwrap().err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(bed.count(ALLOWANCES).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn what_was_decided_under_an_own_quota_that_ends_meanwhile_is_not_granted() {
    let bed = Bed::new("moved_default").await;
    let gates = Gates::new();
    let settings = Settings {
        stages: gates.clone(),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let (team, ana, _) = bed.team_with_token().await;
    let default = quota("each", Subject::EachUser, 10);
    let own = quota("own", Subject::User(ana.uid), 1_000);
    bed.apply_quota_of(&team, &default, &[default.id]).await;
    bed.apply_quota_of(&team, &own, &[default.id, own.id]).await;
    let broker = bed.broker(&replica, &team, "app").await;

    let asked = decided(&gates, &broker).await;
    bed.delete_quota(&team, &own, &[default.id]).await;
    gates.open(Stage::GrantDecided);
    gates.open(Stage::GrantCommitted);
    let answer = asked.await.unwrap().unwrap().answer.unwrap();
    assert!(matches!(answer, Answer::AskAgain(_)), "it was granted");
    replica.stop().await;
}

#[tokio::test]
async fn a_request_that_is_made_twice_at_once_has_one_answer() {
    let bed = Bed::new("moved_twice").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let broker = bed.broker(&replica, &team, "app").await;

    // Both have read that it is the next one.
    let held = bed.lock("incarnation").await;
    let asking = [(); 2].map(|()| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.grant_numbered(1, "ana", None, 1).await })
    });
    bed.until_waiting(2).await;
    held.rollback().await.unwrap();
    let mut ids = Vec::new();
    for asked in asking {
        match asked.await.unwrap().unwrap().answer.unwrap() {
            Answer::Granted(granted) => ids.push(granted.allowance_id),
            _ => panic!("not granted"),
        }
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(bed.count(ALLOWANCES).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn nothing_is_written_for_a_run_whose_review_fell_due_since_it_was_read() {
    let bed = Bed::new("moved_overdue").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    bed.broker(&replica, &team, "app").await;
    let may_be_answered = async |until: &str, request_no: i64, fenced: &str| {
        bed.tamper(&format!("update incarnation set fenced_time = {fenced}"))
            .await;
        let query = format!(
            "select count(*) from incarnation
             where lock_run(tenant_id, incarnation_id, mac, {until}, {request_no})"
        );
        bed.count(&query).await == 1
    };
    let later = "clock_timestamp() + interval '1 hour'";
    assert!(may_be_answered(later, 1, "null").await);
    let earlier = "clock_timestamp() - interval '1 second'";
    assert!(!may_be_answered(earlier, 1, "null").await);
    for number in [0, 2] {
        assert!(!may_be_answered(later, number, "null").await, "{number}");
    }
    assert!(!may_be_answered(later, 1, "now()").await);
    replica.stop().await;
}
