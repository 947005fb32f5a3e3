//! What a workload is told of a user's tokens.

use bursar_vault::rows::{DeletionPolicy, Role};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::describe_user_response::Answer;

use crate::support::{Bed, consumer, token, user};

#[tokio::test]
async fn a_description_has_metadata_and_never_a_value() {
    let bed = Bed::new("describe").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut ana = user("ana");
    ana.role = Role::Chief;
    bed.apply_user(&team, &ana).await;
    bed.token(&team, &ana, "github").await;
    let mut hidden = token("hidden", &ana);
    hidden.consumers = Some(vec![consumer("other", None)]);
    bed.store(&team, &hidden, "h").await;
    let mut revoked = token("revoked", &ana);
    revoked.deletion_policy = DeletionPolicy::Shred;
    bed.store(&team, &revoked, "r").await;
    revoked.through_version = Some(1.try_into().unwrap());
    bed.apply(&team, &revoked).await;
    bed.apply(&team, &token("empty", &ana)).await;

    let broker = bed.broker(&replica, &team, "app").await;
    let Answer::User(user) = broker.describe("ana").await.unwrap() else {
        panic!("denied");
    };
    let seen: Vec<_> = user
        .tokens
        .iter()
        .map(|token| {
            (
                token.token.as_str(),
                token.version,
                token.usable,
                token.reason(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("empty", 0, false, Code::NoVersion),
            ("github", 1, true, Code::Unspecified),
            ("revoked", 1, false, Code::Revoked),
        ]
    );
    assert!(user.tokens[1].version_time_ms.is_some());
    assert_eq!(bed.count("select count(*) from allowance").await, 0);
    replica.stop().await;
}
