//! What the status of tokens is told: when they were used, and that their quotas are used up.

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::{DbTime, QuotaSpec, TokenSpec, UserSpec, UserUid};
use bursar_wire::v1alpha1::AccessRecord;
use jiff::Timestamp;

use crate::support::broker::served;
use crate::support::{Bed, Team, quota};

fn at(millisecond: i64) -> DbTime {
    Timestamp::from_millisecond(millisecond).unwrap().into()
}

#[tokio::test]
async fn the_last_use_on_record_of_each_token_is_told_with_its_reader() {
    let bed = Bed::new("told_uses").await;
    let team = bed.team("team").await;
    let mut ana = crate::support::user("ana");
    ana.workloads = vec!["app".parse().unwrap(), "job".parse().unwrap()];
    bed.apply_user(&team, &ana).await;
    let github = bed.token(&team, &ana, "github").await;
    let slack = bed.token(&team, &ana, "slack").await;
    bed.token(&team, &ana, "unused").await;
    let replica = bed.replica().await;
    let mut app = bed.broker(&replica, &team, "app").await;
    let mut job = bed.broker(&replica, &team, "job").await;
    let vault = bed.controllers.vault();
    let (none, before) = vault.token_uses(at(0)).await.unwrap();
    assert_eq!(none, []);

    let at_time = |record: AccessRecord, last_time_ms| AccessRecord {
        last_time_ms,
        ..record
    };
    let of_app = app.granted("ana", "github").await;
    let of_job = job.granted("ana", "github").await;
    let of_slack = job.granted("ana", "slack").await;
    // What brokers say of the time does not matter.
    let ahead = at_time(served(&of_slack, 1), 4_000_000_000_000);
    app.report(vec![at_time(served(&of_app, 1), 5_000)], vec![])
        .await
        .unwrap();
    job.report(vec![at_time(served(&of_job, 1), 4_000), ahead], vec![])
        .await
        .unwrap();

    let (uses, now) = vault.token_uses(before).await.unwrap();
    assert_eq!(uses.len(), 2);
    let used = |token: &TokenSpec| uses.iter().find(|used| used.token == token.id).unwrap();
    assert_eq!(used(&github).service_account_name, "job");
    for token in [&github, &slack] {
        assert!(before < used(token).time && used(token).time <= now);
    }
    let (none, _) = vault.token_uses(now).await.unwrap();
    assert_eq!(none, [], "all was recorded before");
    replica.stop().await;
}

/// The name of the quota that keeps all readers of each token from it.
async fn exhausted(bed: &Bed, team: &Team, tokens: &[(&TokenSpec, UserUid)]) -> Vec<String> {
    let vault = bed.controllers.vault();
    let asked: Vec<_> = tokens
        .iter()
        .map(|(token, user)| (token.id, *user))
        .collect();
    let found = vault.exhausted(&team.tenant, &asked).await.unwrap();
    let name = |(token, _): &(&TokenSpec, UserUid)| {
        found
            .get(&token.id)
            .map_or_else(String::new, ToString::to_string)
    };
    tokens.iter().map(name).collect()
}

#[tokio::test]
async fn a_token_is_exhausted_while_a_quota_that_all_its_readers_share_is_used_up() {
    let bed = Bed::new("told_exhausted").await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let bo = bed.user(&team, "bo").await;
    let token = async |user: &UserSpec, name: &str| bed.token(&team, user, name).await;
    let github = token(&ana, "github").await;
    let slack = token(&ana, "slack").await;
    let stripe = token(&bo, "stripe").await;
    let tokens = [(&github, ana.uid), (&slack, ana.uid), (&stripe, bo.uid)];
    assert_eq!(exhausted(&bed, &team, &tokens).await, ["", "", ""]);

    let period = Window::Period(std::num::NonZeroU32::new(1_000_000_000).unwrap());
    let of_token = QuotaSpec {
        window: period,
        ..quota("of-github", Subject::Token(github.id), 1)
    };
    let of_app = quota("of-app", Subject::ServiceAccount("app".parse().unwrap()), 1);
    let of_each = quota("of-each", Subject::EachUser, 2);
    let mut warns = quota("warns", Subject::User(bo.uid), 1);
    warns.enforcement = Enforcement::Warn;
    warns.window = period;
    let mut ids = Vec::new();
    for spec in [&of_token, &of_each, &warns] {
        ids.push(spec.id);
        bed.apply_quota_of(&team, spec, &ids).await;
    }
    assert_eq!(exhausted(&bed, &team, &tokens).await, ["", "", ""]);
    let replica = bed.replica().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.granted("ana", "github").await;
    assert_eq!(exhausted(&bed, &team, &tokens).await, ["of-github", "", ""]);
    broker.granted("ana", "slack").await;
    let of_two = ["of-each", "of-each", ""];
    assert_eq!(exhausted(&bed, &team, &tokens).await, of_two);
    // What only one of the readers has used up keeps no other from the token; and bo's own
    // quota only warns.
    broker.granted("bo", "stripe").await;
    ids.push(of_app.id);
    bed.apply_quota_of(&team, &of_app, &ids).await;
    assert_eq!(exhausted(&bed, &team, &tokens).await, of_two);

    let raised = QuotaSpec {
        limit: 3,
        ..of_each
    };
    bed.apply_quota_of(&team, &raised, &ids).await;
    assert_eq!(exhausted(&bed, &team, &tokens).await, ["of-github", "", ""]);
    // Its window ends.
    bed.tamper("update quota_window set window_no = window_no - 1 where window_no > 0")
        .await;
    assert_eq!(exhausted(&bed, &team, &tokens).await, ["", "", ""]);
    replica.stop().await;
}
