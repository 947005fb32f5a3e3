//! How often the vault asks its database to answer a broker once.

use bursar_vault::QuotaSpec;
use bursar_vault::rows::Subject;

use crate::support::proxy::Proxy;
use crate::support::{Bed, consumer, quota, token, user};

/// Calls until each connection to the database has prepared what it is asked, and
/// one of them was not disturbed by what a replica does besides.
const CALLS: usize = 40;

/// The round trips of the cheapest of many calls.
async fn cheapest(proxy: &Proxy, mut call: impl AsyncFnMut()) -> u64 {
    let mut fewest = u64::MAX;
    for _ in 0..CALLS {
        let before = proxy.questions();
        call().await;
        fewest = fewest.min(proxy.questions() - before);
    }
    fewest
}

#[tokio::test]
async fn a_grant_takes_three_round_trips_and_a_denial_two() {
    let bed = Bed::new("trips").await;
    let proxy = Proxy::start(&bed.database).await;
    let replica = bed.replica_behind(&proxy).await;
    let team = bed.team("team").await;
    let (ana, bo) = (bed.user(&team, "ana").await, bed.user(&team, "bo").await);
    let mut github = token("github", &ana);
    github.consumers = Some(vec![consumer("app", Some(&["sync"]))]);
    bed.store(&team, &github, "VALUE of github").await;
    bed.token(&team, &ana, "gitlab").await;
    bed.token(&team, &bo, "slack").await;
    let mut cy = user("cy");
    cy.workloads = vec!["other".parse().unwrap()];
    bed.apply_user(&team, &cy).await;
    let limit = quota("limit", Subject::User(ana.uid), 1_000_000);
    bed.apply_quota(&team, &limit).await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    // Narrowed, under a quota, beside another token.
    let named = cheapest(&proxy, async || {
        broker.granted("ana", "github").await;
    });
    assert_eq!(named.await, 3);
    let only_one = cheapest(&proxy, async || {
        broker.ask("bo", None).await.unwrap().unwrap();
    });
    assert_eq!(only_one.await, 3);
    let repeated = cheapest(&proxy, async || {
        let number = broker.request_no;
        let answer = broker.grant_numbered(number, "bo", None, 100).await;
        answer.unwrap();
    });
    assert_eq!(repeated.await, 3);
    let denied = cheapest(&proxy, async || {
        broker.denied("cy", Some("github")).await;
    });
    assert_eq!(denied.await, 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_consumption_takes_eleven_round_trips() {
    let bed = Bed::new("trips_consume").await;
    let proxy = Proxy::start(&bed.database).await;
    let replica = bed.replica_behind(&proxy).await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let limit = QuotaSpec {
        counter: "filesUploaded".parse().unwrap(),
        ..quota("limit", Subject::User(ana.uid), 1_000_000)
    };
    bed.apply_quota(&team, &limit).await;
    let broker = bed.broker(&replica, &team, "app").await;
    let mut number = 0;
    let consumed = cheapest(&proxy, async || {
        number += 1;
        let (counter, key) = (("ana", "filesUploaded"), format!("k-{number}"));
        let answer = broker.consume(counter, 1, &key).await;
        answer.unwrap().unwrap();
    });
    assert_eq!(consumed.await, 11);
    replica.stop().await;
}
