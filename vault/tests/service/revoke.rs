//! Grants and revocations at the same time: whatever the order, nobody goes on
//! with what was revoked (I7).

use bursar_vault::rows::Subject;
use bursar_vault::service::{Settings, Stage};
use bursar_vault::{TokenSpec, UserSpec};
use bursar_wire::v1alpha1::denied::Code;

use crate::support::gates::Gates;
use crate::support::{Bed, Team, consumer, quota};

/// What a grant and a revocation do, each in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The grant, which has read what it decides on, is written and committed.
    Commit,
    /// It reads again and answers.
    Answer,
    /// The revocation commits.
    Revoke,
    /// Its holders are listed and told.
    Tell,
}

/// Every order of a grant's steps and a revocation's: the revocation commits between
/// the grant's reading and its commit, between its commit and its reading again, or
/// after that. The grant has read before the first, for otherwise it is just refused.
fn orders() -> [[Step; 4]; 6] {
    use Step::{Answer, Commit, Revoke, Tell};
    [
        [Commit, Answer, Revoke, Tell],
        [Commit, Revoke, Answer, Tell],
        [Commit, Revoke, Tell, Answer],
        [Revoke, Commit, Answer, Tell],
        [Revoke, Commit, Tell, Answer],
        [Revoke, Tell, Commit, Answer],
    ]
}

/// The ways to revoke. The last three show by an epoch alone.
#[derive(Clone, Copy, Debug)]
enum Way {
    Version,
    User,
    Workload,
    Consumer,
    Quota,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Version,
        Self::User,
        Self::Workload,
        Self::Consumer,
        Self::Quota,
    ];

    /// What a grant is refused with afterwards.
    fn code(self) -> Code {
        match self {
            Self::Version => Code::Revoked,
            Self::User | Self::Workload | Self::Consumer => Code::Forbidden,
            Self::Quota => Code::QuotaExhausted,
        }
    }

    async fn revoke(self, bed: &Bed, team: &Team, user: &UserSpec, token: &TokenSpec) {
        let (mut user, mut token) = (user.clone(), token.clone());
        match self {
            Self::Version => {
                token.through_version = Some(1.try_into().unwrap());
                bed.apply(team, &token).await;
            }
            Self::User => {
                user.suspended = true;
                bed.apply_user(team, &user).await;
            }
            Self::Workload => {
                user.workloads = vec!["other".parse().unwrap()];
                bed.apply_user(team, &user).await;
            }
            Self::Consumer => {
                token.consumers = Some(vec![consumer("other", None)]);
                bed.apply(team, &token).await;
            }
            Self::Quota => {
                let limit = quota("limit", Subject::User(user.uid), 0);
                bed.apply_quota(team, &limit).await;
            }
        }
    }
}

#[tokio::test]
async fn in_every_order_a_grant_is_refused_or_its_holder_is_told() {
    let bed = Bed::new("revoke_orders").await;
    // All that the change log tells of this was written before the replica follows it.
    let mut cases = Vec::new();
    for way in Way::ALL {
        for order in orders() {
            let team = bed.team(&format!("team-{}", cases.len())).await;
            let user = bed.user(&team, "ana").await;
            let token = bed.token(&team, &user, "github").await;
            cases.push((way, order, team, user, token));
        }
    }
    let gates = Gates::new();
    let settings = Settings {
        stages: gates.clone(),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    for (way, order, team, user, token) in cases {
        let what = format!("{way:?} {order:?}");
        let mut broker = bed.broker(&replica, &team, "app").await;
        let (mut events, _) = broker.watch().await;
        gates.close_all();
        let mut asked = Some(tokio::spawn(async move {
            broker.ask("ana", None).await.unwrap()
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
                    answer = Some(asked.take().unwrap().await.unwrap());
                }
                Step::Revoke => {
                    way.revoke(&bed, &team, &user, &token).await;
                    gates.until_reached(Stage::ChangesRead).await;
                }
                Step::Tell => {
                    gates.open(Stage::ChangesRead);
                    gates.until_reached(Stage::HoldersTold).await;
                }
            }
        }

        let place = |step| order.iter().position(|it| *it == step);
        let revoked_before_answer = place(Step::Revoke) < place(Step::Answer);
        match answer.unwrap() {
            Ok(granted) => {
                assert!(!revoked_before_answer, "{what}: granted what was revoked");
                assert_eq!(events.recalled().await, [granted.allowance_id], "{what}");
            }
            Err(denied) => {
                assert!(revoked_before_answer, "{what}: {denied:?}");
                assert_eq!(denied.code(), way.code(), "{what}");
                let open = format!(
                    "select count(*) from allowance
                         where token_id = '{}' and state <> 'Closed'",
                    token.id
                );
                assert_eq!(bed.count(&open).await, 0, "{what}");
            }
        }
    }
    replica.stop().await;
}
