//! Who may count and be told of the count.

use std::num::NonZeroU32;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_wire::v1alpha1::Denied;
use bursar_wire::v1alpha1::denied::Code;

use super::{UPLOADS, apply, scene, uploads};
use crate::support::{Bed, CHARGED, consumer, quota, token, user};

#[tokio::test]
async fn nothing_is_counted_for_who_may_not_act_as_the_user_and_each_attempt_is() {
    let bed = Bed::new("own_forged").await;
    let (team, _, replica, _) = scene(&bed, 100).await;
    let mut eve = user("eve");
    eve.workloads = vec!["stranger".parse().unwrap()];
    eve.suspended = true;
    bed.apply_user(&team, &eve).await;
    let stranger = bed.broker(&replica, &team, "stranger").await;
    let mut denials = Vec::new();
    for name in ["ana", "absent", "eve"] {
        let counter = (name, "filesUploaded");
        denials.push(
            stranger
                .consume(counter, 1, "k")
                .await
                .unwrap()
                .unwrap_err(),
        );
        denials.push(
            stranger
                .release(counter, 1, "k")
                .await
                .unwrap()
                .unwrap_err(),
        );
        denials.push(stranger.quotas(name).await.unwrap_err());
        let nothing = stranger.consume((name, "nothing"), 1, "k").await.unwrap();
        denials.push(nothing.unwrap_err());
    }
    let forbidden = Denied {
        code: Code::Forbidden.into(),
        ..Denied::default()
    };
    assert!(
        denials.iter().all(|denied| *denied == forbidden),
        "{denials:?}"
    );
    let counted = "select count from denial
                   where service_account_name = 'stranger' and reason = 'Forbidden'";
    assert_eq!(bed.count(counted).await, 12);
    assert_eq!(bed.count(CHARGED).await, 0);
    assert_eq!(bed.count("select count(*) from idempotency_key").await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn quotas_are_described_to_whom_they_concern() {
    let bed = Bed::new("own_described").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let (ana, bo) = (bed.user(&team, "ana").await, bed.user(&team, "bo").await);
    let github = bed.token(&team, &ana, "github").await;
    let mut hidden = token("hidden", &ana);
    hidden.consumers = Some(vec![consumer("other", None)]);
    bed.store(&team, &hidden, "h").await;
    let account = |name: &str| Subject::ServiceAccount(name.parse().unwrap());
    let mut limits = [
        quota("github", Subject::Token(github.id), 100),
        quota("hidden", Subject::Token(hidden.id), 100),
        quota("of-app", account("app"), 1_000),
        quota("of-bo", Subject::User(bo.uid), 100),
        quota("of-other", account("other"), 100),
        uploads("default", Subject::EachUser, 5),
    ];
    limits[5].window = Window::Period(NonZeroU32::new(86_400).unwrap());
    limits[5].enforcement = Enforcement::Warn;
    apply(&bed, &team, &limits.each_ref()).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let units = u64::from(broker.granted("ana", "github").await.units);
    broker.consume(UPLOADS, 7, "k").await.unwrap().unwrap();
    let found = broker.quotas("ana").await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|it| (&*it.name, &*it.subject, &*it.counter, it.used, it.enforced))
        .collect();
    let expected = [
        ("default", "each user", "filesUploaded", 7, false),
        ("github", "token/github", "accesses", units, true),
        ("of-app", "serviceaccount/app", "accesses", units, true),
    ];
    assert_eq!(seen, expected);
    let default = &found[0];
    assert_eq!((default.limit, default.period_s), (5, Some(86_400)));
    let end = default.window_end_time_ms.unwrap();
    assert_eq!(end % 86_400_000, 0, "days end at midnight UTC");
    assert_eq!(
        (found[1].period_s, found[1].window_end_time_ms),
        (None, None)
    );
    replica.stop().await;
}
