//! What a description says of tokens that a quota leaves nothing of.

use bursar_vault::rows::{Enforcement, Subject};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::describe_user_response::Answer;

use crate::support::broker::{Broker, served};
use crate::support::{Bed, quota};

/// Ana's tokens that `broker` is told it cannot read, and why.
async fn refused(broker: &Broker) -> Vec<(String, Code)> {
    let Answer::User(user) = broker.describe("ana").await.unwrap() else {
        panic!("denied");
    };
    let refused = user.tokens.into_iter().filter(|token| !token.usable);
    refused
        .map(|token| (token.token.clone(), token.reason()))
        .collect()
}

#[tokio::test]
async fn a_token_is_described_as_exhausted_when_its_next_read_would_be_refused() {
    let bed = Bed::new("quota_status").await;
    let replica = bed.replica().await;
    let (team, ana, github) = bed.team_with_token().await;
    bed.token(&team, &ana, "slack").await;
    let mut limit = quota("limit", Subject::Token(github.id), 3);
    let mut warns = quota("warns", Subject::User(ana.uid), 1);
    warns.enforcement = Enforcement::Warn;
    let other = Subject::ServiceAccount("other".parse().unwrap());
    let others = quota("others", other, 0);
    for (quota, existing) in [
        (&limit, &[limit.id][..]),
        (&warns, &[limit.id, warns.id]),
        (&others, &[limit.id, warns.id, others.id]),
    ] {
        bed.apply_quota_of(&team, quota, existing).await;
    }
    let mut broker = bed.broker(&replica, &team, "app").await;
    let neighbour = bed.broker(&replica, &team, "app").await;

    let mut used = 0;
    while used < 3 {
        assert_eq!(refused(&broker).await, [], "{used} of 3 are used");
        let granted = broker.granted("ana", "github").await;
        // What one holds, it serves, or gives back to whoever asks.
        for broker in [&broker, &neighbour] {
            assert_eq!(refused(broker).await, []);
        }
        // Used, and not closed yet.
        let all = vec![served(&granted, granted.units)];
        broker.report(all, vec![]).await.unwrap();
        used += granted.units;
    }
    let exhausted = [("github".to_owned(), Code::QuotaExhausted)];
    for broker in [&broker, &neighbour] {
        assert_eq!(refused(broker).await, exhausted);
    }
    assert_eq!(
        broker.denied("ana", Some("github")).await,
        Code::QuotaExhausted
    );
    broker.granted("ana", "slack").await;

    limit.limit = 4;
    let all = [limit.id, warns.id, others.id];
    bed.apply_quota_of(&team, &limit, &all).await;
    assert_eq!(refused(&broker).await, []);
    limit.limit = 0;
    bed.apply_quota_of(&team, &limit, &all).await;
    assert_eq!(refused(&neighbour).await, exhausted);
    replica.stop().await;
}

#[tokio::test]
async fn what_nobody_can_read_for_a_damaged_quota_is_not_described_as_served() {
    let bed = Bed::new("quota_status_damaged").await;
    let replica = bed.replica().await;
    let (team, ana, _) = bed.team_with_token().await;
    let limit = quota("limit", Subject::User(ana.uid), 9);
    bed.apply_quota(&team, &limit).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    assert_eq!(refused(&broker).await, []);
    bed.tamper("update quota set units = 1000").await;
    assert_eq!(
        refused(&broker).await,
        [("github".to_owned(), Code::Forbidden)]
    );
    assert_eq!(broker.denied("ana", Some("github")).await, Code::Forbidden);
    replica.stop().await;
}
