//! Grants and revocations at the same time: whatever the order, nobody goes on
//! with what was revoked (I7).

use bursar_vault::service::{Settings, Stage};
use bursar_vault::{TokenSpec, UserSpec};
use bursar_wire::v1alpha1::denied::Code;

use crate::support::gates::Gates;
use crate::support::{Bed, Team};

/// What a grant and a revocation do, each in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The grant commits.
    Commit,
    /// It reads again and answers.
    Answer,
    /// The revocation commits.
    Revoke,
    /// Its holders are listed and told.
    Tell,
}

/// Every order of a grant's steps and a revocation's. The grant was decided
/// before the first, for otherwise it is just refused.
fn orders() -> Vec<[Step; 4]> {
    use Step::{Answer, Commit, Revoke, Tell};
    vec![
        [Commit, Answer, Revoke, Tell],
        [Commit, Revoke, Answer, Tell],
        [Commit, Revoke, Tell, Answer],
        [Revoke, Commit, Answer, Tell],
        [Revoke, Commit, Tell, Answer],
        [Revoke, Tell, Commit, Answer],
    ]
}

async fn revoke(bed: &Bed, team: &Team, user: &UserSpec, token: &TokenSpec, suspend: bool) {
    if suspend {
        let mut suspended = user.clone();
        suspended.suspended = true;
        bed.apply_user(team, &suspended).await;
    } else {
        let mut revoked = token.clone();
        revoked.through_version = Some(1.try_into().unwrap());
        bed.apply(team, &revoked).await;
    }
}

#[tokio::test]
async fn in_every_order_a_grant_is_refused_or_its_holder_is_told() {
    let bed = Bed::new("revoke_orders").await;
    let team = bed.team("team").await;
    let mut cases = Vec::new();
    for suspend in [false, true] {
        for order in orders() {
            let user = bed.user(&team, &format!("user-{}", cases.len())).await;
            let token = bed
                .token(&team, &user, &format!("token-{}", cases.len()))
                .await;
            cases.push((order, suspend, user, token));
        }
    }
    let gates = Gates::new();
    let settings = Settings {
        stages: gates.clone(),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    for (order, suspend, user, token) in cases {
        let (mut events, _) = broker.watch().await;
        gates.close_all();
        let name = user.name.to_string();
        let asking = broker.clone();
        let mut asked = Some(tokio::spawn(async move {
            let mut asking = asking;
            let answer = asking.ask(&name, None).await.unwrap();
            (asking, answer)
        }));
        gates.until_reached(Stage::GrantDecided).await;

        let mut answer = None;
        for step in order {
            match step {
                Step::Commit => {
                    gates.open(Stage::GrantDecided);
                    gates.until_reached(Stage::GrantCommitted).await;
                }
                Step::Answer => {
                    gates.open(Stage::GrantCommitted);
                    let (asking, answered) = asked.take().unwrap().await.unwrap();
                    (broker.request_no, broker.report_seq) = (asking.request_no, asking.report_seq);
                    answer = Some(answered);
                }
                Step::Revoke => {
                    revoke(&bed, &team, &user, &token, suspend).await;
                    gates.until_reached(Stage::ChangesRead).await;
                }
                Step::Tell => {
                    gates.open(Stage::ChangesRead);
                    gates.until_reached(Stage::HoldersTold).await;
                }
            }
        }

        let revoked_before_answer = order.iter().position(|step| *step == Step::Revoke)
            < order.iter().position(|step| *step == Step::Answer);
        match answer.unwrap() {
            Ok(granted) => {
                assert!(
                    !revoked_before_answer,
                    "{order:?}: granted what was revoked"
                );
                assert_eq!(events.recalled().await, [granted.allowance_id], "{order:?}");
            }
            Err(denied) => {
                assert!(revoked_before_answer, "{order:?}: {denied:?}");
                let code = if suspend {
                    Code::Forbidden
                } else {
                    Code::Revoked
                };
                assert_eq!(denied.code(), code, "{order:?}");
                let open = format!(
                    "select count(*) from allowance where token_id = '{}' and state <> 'Closed'",
                    token.id
                );
                assert_eq!(bed.count(&open).await, 0, "{order:?}");
            }
        }
    }
    replica.stop().await;
}
