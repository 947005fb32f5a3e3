//! An object of the same name has nothing of the one before it.

use bursar_wire::v1alpha1::denied::Code;

use crate::support::{Bed, token, user};

#[tokio::test]
async fn a_recreated_user_starts_empty() {
    let bed = Bed::new("grant_new_user").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.granted("ana", "github").await;

    // Another object of the same name; its tokens have not been applied anew.
    let other = user("ana");
    bed.apply_user(&team, &other).await;
    assert_eq!(
        broker.denied("ana", Some("github")).await,
        Code::TokenNotFound
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_recreated_token_starts_empty_for_who_held_the_old_one() {
    let bed = Bed::new("grant_recreated_token").await;
    let replica = bed.replica().await;
    let (team, ana, old) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let held = broker.granted("ana", "github").await;
    let (mut events, _) = broker.watch().await;

    // Another object of the same name, whose Secret nobody has read yet.
    let new = token("github", &ana);
    bed.apply(&team, &new).await;
    assert_eq!(events.recalled().await, [held.allowance_id]);
    assert_eq!(broker.denied("ana", Some("github")).await, Code::NoVersion);
    bed.store(&team, &new, "VALUE anew").await;
    let granted = broker.granted("ana", "github").await;
    assert_eq!(granted.token_id, new.id.to_string());
    assert_ne!(granted.token_id, old.id.to_string());
    assert_eq!(
        (granted.version, broker.value(&granted).as_str()),
        (1, "VALUE anew")
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_recreated_namespace_starts_empty() {
    let bed = Bed::new("grant_new_namespace").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let mut old = bed.broker(&replica, &team, "app").await;
    old.granted("ana", "github").await;

    let again = bed.team("team").await;
    assert_ne!(again.tenant.id(), team.tenant.id());
    let refused = old.ask("ana", Some("github")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut new = bed.broker(&replica, &again, "app").await;
    assert_eq!(new.denied("ana", Some("github")).await, Code::Forbidden);
    replica.stop().await;
}
