//! Quotas: exact over any number of brokers, whatever becomes of them.

use std::num::NonZeroU32;
use std::time::Duration;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_vault::service::Settings;
use bursar_vault::{Source, TokenValue};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::{Denied, Granted};

use crate::support::broker::{Broker, Events, served};
use crate::support::{Bed, Team, quota, token, user};

/// Counts for which it does not hold that what was charged is what was granted
/// less what was returned.
const UNBALANCED: &str = "
    select count(*) from quota_window w
    where w.charged <> (
        select coalesce(sum(a.granted - a.returned), 0) from allowance_charge c
        join allowance a on a.tenant_id = c.tenant_id and a.allowance_id = c.allowance_id
        where c.tenant_id = w.tenant_id and c.usage_id = w.usage_id
          and c.window_no = w.window_no)
       or w.charged > w.cap";

const CHARGED: &str = "select coalesce(sum(charged), 0)::bigint from quota_window";

/// A broker that hears recalls and obeys them.
struct Obedient {
    broker: Broker,
    events: Events,
}

impl Obedient {
    async fn new(broker: Broker) -> Self {
        let (events, recalled) = broker.watch().await;
        assert!(recalled.is_empty());
        Self { broker, events }
    }

    /// Reads a token until a quota is used up; how often it did.
    async fn use_up(mut self, user: &str, token: &str) -> (u32, Denied) {
        let mut total = 0;
        loop {
            match self.broker.ask(user, Some(token)).await.unwrap() {
                Ok(granted) => total += self.serve(&granted).await,
                Err(denied) => return (total, denied),
            }
        }
    }

    /// Serves from an allowance until it is used up or recalled, and closes it.
    async fn serve(&mut self, granted: &Granted) -> u32 {
        let mut count = 0;
        while count < granted.units {
            count += 1;
            if self
                .events
                .recalled_so_far()
                .await
                .contains(&granted.allowance_id)
            {
                break;
            }
        }
        let closed = vec![granted.allowance_id.clone()];
        self.broker
            .report(vec![served(granted, count)], closed)
            .await
            .unwrap();
        count
    }
}

async fn denied(broker: &mut Broker, token: &str) -> Denied {
    let answer = broker.ask("ana", Some(token)).await.unwrap();
    answer.err().expect("granted")
}

/// `ana` with the token `github`, and a broker that may read it.
async fn team(bed: &Bed) -> (Team, Subject) {
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    bed.token(&team, &ana, "github").await;
    (team, Subject::User(ana.uid))
}

#[tokio::test]
async fn five_brokers_that_share_a_quota_read_just_as_often_as_it_says() {
    let bed = Bed::new("quota_shared").await;
    let (first, second) = (bed.replica().await, bed.replica().await);
    let (team, ana) = team(&bed).await;
    bed.apply_quota(&team, &quota("limit", ana, 100)).await;

    let mut brokers = Vec::new();
    for replica in [&first, &second, &first, &second, &first] {
        brokers.push(Obedient::new(bed.broker(replica, &team, "app").await).await);
    }
    let reading = brokers
        .into_iter()
        .map(|broker| broker.use_up("ana", "github"));
    let done = futures::future::join_all(reading).await;
    assert_eq!(done.iter().map(|(count, _)| count).sum::<u32>(), 100);
    for (_, denied) in &done {
        assert_eq!(denied.code(), Code::QuotaExhausted);
        assert_eq!(
            denied.retry_after_ms, None,
            "a lifetime does not begin anew"
        );
    }
    assert_eq!(bed.count(CHARGED).await, 100);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    let recorded = "select sum(count)::bigint from access_record where outcome = 'Served'";
    assert_eq!(bed.count(recorded).await, 100);
    let counted = "select count(*) from denial where reason = 'QuotaExhausted'";
    assert_eq!(bed.count(counted).await, 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn what_a_killed_broker_may_have_used_stays_charged() {
    let bed = Bed::with_lease("quota_killed", Duration::from_secs(1)).await;
    let quick = Settings {
        lapse_grace: Duration::from_secs(1),
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    let (team, ana) = team(&bed).await;
    bed.apply_quota(&team, &quota("limit", ana, 100)).await;

    let mut killed = bed.broker(&replica, &team, "app").await;
    let granted = killed.granted("ana", "github").await;
    assert_eq!(granted.units, 50, "half is left for others");
    killed
        .report(vec![served(&granted, 20)], vec![])
        .await
        .unwrap();
    drop(killed);
    let lapsed = "select count(*) from allowance where state = 'Lapsed'";
    bed.until_count(lapsed, 1).await;

    let other = Obedient::new(bed.broker(&replica, &team, "app").await).await;
    let (count, denied) = other.use_up("ana", "github").await;
    assert_eq!((count, denied.code()), (50, Code::QuotaExhausted));
    let unaccounted = "select sum(count)::bigint from access_record where outcome = 'Unaccounted'";
    assert_eq!(bed.count(unaccounted).await, 30);
    assert_eq!(bed.count(CHARGED).await, 100);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn after_a_lapse_a_service_accounts_counted_allowances_begin_with_one_access_and_double() {
    let bed = Bed::with_lease("quota_slow_start", Duration::from_secs(1)).await;
    let quick = Settings {
        lapse_grace: Duration::from_secs(1),
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    let (team, ana) = team(&bed).await;
    bed.apply_quota(&team, &quota("limit", ana, 10_000)).await;
    // Nobody counts what she reads.
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "slack").await;

    let mut killed = bed.broker(&replica, &team, "app").await;
    let granted = killed.granted("ana", "github").await;
    assert_eq!(granted.units, 100, "all that was asked for");
    drop(killed);
    bed.until_count("select count(*) from slow_start", 1).await;

    let mut next = bed.broker(&replica, &team, "app").await;
    assert_eq!(next.granted("bo", "slack").await.units, 100);
    let mut sizes = Vec::new();
    for _ in 0..13 {
        let granted = next.granted("ana", "github").await;
        let closed = vec![granted.allowance_id];
        next.report(vec![], closed).await.unwrap();
        sizes.push(granted.units);
    }
    assert_eq!(sizes[..8], [1, 2, 4, 8, 16, 32, 64, 100]);
    assert!(sizes[8..].iter().all(|units| *units == 100), "{sizes:?}");
    // It is over, until the next lapse.
    assert_eq!(bed.count("select count(*) from slow_start").await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_period_begins_anew_and_what_is_returned_goes_where_it_was_charged() {
    let bed = Bed::new("quota_period").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut limit = quota("limit", ana, 10);
    limit.window = Window::Period(NonZeroU32::new(3_600).unwrap());
    bed.apply_quota(&team, &limit).await;

    let mut broker = bed.broker(&replica, &team, "app").await;
    let first = broker.granted("ana", "github").await;
    let held = first.units;
    let mut rest = Vec::new();
    let retry_after_ms = loop {
        match broker.ask("ana", Some("github")).await.unwrap() {
            Ok(granted) => rest.push(granted),
            Err(denied) => break denied.retry_after_ms.unwrap(),
        }
    };
    assert!(retry_after_ms <= 3_600_000);
    // An hour passes.
    for table in ["quota_window", "allowance_charge"] {
        bed.tamper(&format!("update {table} set window_no = window_no - 1"))
            .await;
    }

    let next = broker.granted("ana", "github").await;
    let windows = "select count(*) from quota_window";
    assert_eq!(bed.count(windows).await, 2);
    broker
        .report(vec![], vec![first.allowance_id.clone()])
        .await
        .unwrap();
    let of_window = |order: &str| {
        format!("select charged from quota_window order by window_no {order} limit 1")
    };
    let rest: u32 = rest.iter().map(|granted| granted.units).sum();
    assert_eq!(held + rest, 10);
    assert_eq!(bed.count(&of_window("asc")).await, i64::from(rest));
    assert_eq!(bed.count(&of_window("desc")).await, i64::from(next.units));
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn an_allowance_ends_with_the_window_it_was_charged_to() {
    let bed = Bed::new("quota_window_end").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut limit = quota("limit", ana, 1_000);
    limit.window = Window::Period(NonZeroU32::new(2).unwrap());
    bed.apply_quota(&team, &limit).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    for _ in 0..5 {
        let granted = broker.granted("ana", "github").await;
        assert!(granted.expires_in_ms <= 2_000, "{}", granted.expires_in_ms);
    }
    let beyond = "select count(*) from allowance a
                  join allowance_charge c using (tenant_id, allowance_id)
                  where a.expires_time > to_timestamp((c.window_no + 1) * 2)";
    assert_eq!(bed.count(beyond).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn what_was_checked_is_what_is_charged_though_the_next_window_begins_meanwhile() {
    let bed = Bed::new("quota_meanwhile").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut limit = quota("limit", ana, 10);
    limit.window = Window::Period(NonZeroU32::new(3_600).unwrap());
    bed.apply_quota(&team, &limit).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    assert_eq!(broker.granted("ana", "github").await.units, 5);

    // The next grant has chosen its window and waits for it.
    let mut held = bed.sql.begin().await.unwrap();
    sqlx::query("select from quota_window for update")
        .execute(&mut *held)
        .await
        .unwrap();
    let asking = tokio::spawn(async move { broker.granted("ana", "github").await.units });
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    bed.until_count(waiting, 1).await;
    // Another one, whose clock is ahead, has used up the next.
    bed.tamper(
        "insert into quota_window (tenant_id, usage_id, window_no, description, charged, cap)
         select tenant_id, usage_id, window_no + 1, description, 10, 10 from quota_window",
    )
    .await;
    held.commit().await.unwrap();
    assert_eq!(asking.await.unwrap(), 2);
    let charged = bed
        .texts("select charged::text from quota_window order by window_no")
        .await;
    assert_eq!(charged, ["7", "10"]);
    replica.stop().await;
}

#[tokio::test]
async fn a_quota_that_only_warns_counts_and_refuses_nothing() {
    let bed = Bed::new("quota_warn").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut limit = quota("limit", ana, 1);
    limit.enforcement = Enforcement::Warn;
    let state = bed.apply_quota(&team, &limit).await;
    assert_eq!((state.used, state.enforced), (Some(0), true));

    let mut broker = bed.broker(&replica, &team, "app").await;
    let granted = broker.granted("ana", "github").await;
    assert!(granted.counted && granted.units == 100);
    assert_eq!(bed.apply_quota(&team, &limit).await.used, Some(100));
    // From then on it refuses, and what is held is recalled.
    let (mut events, _) = broker.watch().await;
    limit.enforcement = Enforcement::Enforce;
    let state = bed.apply_quota(&team, &limit).await;
    assert!(!state.enforced, "something is held from before");
    assert_eq!(
        events.recalled().await,
        std::slice::from_ref(&granted.allowance_id)
    );
    broker
        .report(vec![served(&granted, 3)], vec![granted.allowance_id])
        .await
        .unwrap();
    let state = bed.apply_quota(&team, &limit).await;
    assert_eq!((state.used, state.enforced), (Some(3), true));
    assert_eq!(
        denied(&mut broker, "github").await.code(),
        Code::QuotaExhausted
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_limit_may_rise_and_fall_and_making_it_anew_does_not_begin_at_zero() {
    let bed = Bed::new("quota_changes").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut limit = quota("limit", ana.clone(), 10);
    bed.apply_quota(&team, &limit).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let first = broker.granted("ana", "github").await;
    assert_eq!(first.units, 5);
    broker
        .report(vec![served(&first, 5)], vec![first.allowance_id])
        .await
        .unwrap();

    // Lower: what is left is less.
    limit.limit = 6;
    bed.apply_quota(&team, &limit).await;
    assert_eq!(broker.granted("ana", "github").await.units, 1);
    assert_eq!(
        denied(&mut broker, "github").await.code(),
        Code::QuotaExhausted
    );
    // Higher: denials are to be forgotten, and there is more.
    limit.limit = 20;
    let (mut events, _) = broker.watch().await;
    bed.apply_quota(&team, &limit).await;
    assert!(matches!(
        events.next().await,
        bursar_wire::v1alpha1::event::Event::ForgetDenials(_)
    ));
    assert_eq!(broker.granted("ana", "github").await.units, 7);

    // Gone: nothing is counted. Made anew: as before.
    let existing = [].into();
    bed.controllers
        .delete_quota(&team.tenant, limit.id, &existing)
        .await
        .unwrap();
    let uncounted = broker.granted("ana", "github").await;
    assert!(!uncounted.counted && uncounted.units == 100);
    let anew = bed.apply_quota(&team, &quota("limit", ana, 20)).await;
    assert_eq!(anew.used, Some(13));
    replica.stop().await;
}

#[tokio::test]
async fn the_default_recalls_what_a_user_holds_under_an_own_quota_that_ends_or_looks_elsewhere() {
    let bed = Bed::new("quota_default_again").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let default = quota("each", Subject::EachUser, 10);
    let mut own = quota("own", ana, 1_000);
    let ids = [default.id, own.id];
    bed.apply_quota_of(&team, &default, &ids[..1]).await;
    bed.apply_quota_of(&team, &own, &ids).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let (mut events, _) = broker.watch().await;

    let first = broker.granted("ana", "github").await;
    assert_eq!(first.units, 100);
    own.window = Window::Period(NonZeroU32::new(86_400).unwrap());
    bed.apply_quota_of(&team, &own, &ids).await;
    assert_eq!(
        events.recalled().await,
        std::slice::from_ref(&first.allowance_id)
    );
    assert!(!bed.apply_quota_of(&team, &default, &ids).await.enforced);
    broker
        .report(vec![], vec![first.allowance_id])
        .await
        .unwrap();
    assert!(bed.apply_quota_of(&team, &default, &ids).await.enforced);

    own.window = default.window;
    bed.apply_quota_of(&team, &own, &ids).await;
    let second = broker.granted("ana", "github").await;
    assert_eq!(second.units, 100);
    let existing = [default.id].into();
    bed.controllers
        .delete_quota(&team.tenant, own.id, &existing)
        .await
        .unwrap();
    assert_eq!(
        events.recalled().await,
        std::slice::from_ref(&second.allowance_id)
    );
    assert!(
        !bed.apply_quota_of(&team, &default, &ids[..1])
            .await
            .enforced
    );
    broker
        .report(vec![served(&second, 4)], vec![second.allowance_id])
        .await
        .unwrap();
    assert!(
        bed.apply_quota_of(&team, &default, &ids[..1])
            .await
            .enforced
    );
    assert_eq!(broker.granted("ana", "github").await.units, 3);
    replica.stop().await;
}

#[tokio::test]
async fn every_kind_of_subject_counts_its_own() {
    let bed = Bed::new("quota_subjects").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut ana = user("ana");
    ana.workloads.push("batch".parse().unwrap());
    bed.apply_user(&team, &ana).await;
    let github = bed.token(&team, &ana, "github").await;
    bed.token(&team, &ana, "slack").await;
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "pager").await;
    let quotas = [
        quota("github", Subject::Token(github.id), 1),
        quota(
            "batch",
            Subject::ServiceAccount("batch".parse().unwrap()),
            1,
        ),
        quota("each", Subject::EachUser, 3),
    ];
    let ids = quotas.each_ref().map(|quota| quota.id);
    for (place, quota) in quotas.iter().enumerate() {
        bed.apply_quota_of(&team, quota, &ids[..=place]).await;
    }

    let mut app = bed.broker(&replica, &team, "app").await;
    let mut batch = bed.broker(&replica, &team, "batch").await;
    // One access each, so that the order of grants is all that counts.
    let one = async |broker: &mut Broker, user: &str, token: &str| {
        let number = broker.request_no + 1;
        let answer = broker.grant_numbered(number, user, Some(token), 1).await;
        broker.request_no = number;
        matches!(
            answer.unwrap().answer.unwrap(),
            bursar_wire::v1alpha1::grant_response::Answer::Granted(_)
        )
    };
    assert!(one(&mut app, "ana", "github").await);
    assert!(
        !one(&mut app, "ana", "github").await,
        "the token's is used up"
    );
    assert!(one(&mut batch, "ana", "slack").await);
    assert!(!one(&mut batch, "ana", "slack").await, "the account's is");
    assert!(one(&mut app, "ana", "slack").await);
    assert!(!one(&mut app, "ana", "slack").await, "ana's is");
    for _ in 0..3 {
        assert!(one(&mut app, "bo", "pager").await);
    }
    assert!(!one(&mut app, "bo", "pager").await, "bo's is");
    assert_eq!(bed.count(UNBALANCED).await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_quota_that_was_taken_out_of_the_database_is_missed_and_written_anew() {
    let bed = Bed::new("quota_gone").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let mut github = token("spare", &user("nobody"));
    github.user_uid = match &ana {
        Subject::User(uid) => *uid,
        other => panic!("{other:?}"),
    };
    let value = TokenValue::new(bursar_seal::Secret::from(b"spare".to_vec())).unwrap();
    bed.controllers
        .apply_token(&team.tenant, &github, Source::SecretKeyRef(&value))
        .await
        .unwrap();
    let limits = [quota("one", ana.clone(), 1), quota("two", ana, 7)];
    let ids = limits.each_ref().map(|limit| limit.id);
    for limit in &limits {
        bed.apply_quota_of(&team, limit, &ids).await;
    }
    let mut broker = bed.broker(&replica, &team, "app").await;
    for statement in [
        "delete from quota where name = 'one'",
        "delete from quota_set",
        "update quota_set set quota_ids = '{}'",
    ] {
        bed.tamper(statement).await;
        assert_eq!(
            denied(&mut broker, "github").await.code(),
            Code::Forbidden,
            "{statement}"
        );
        // The other one does not bless what is missing.
        bed.apply_quota_of(&team, &limits[1], &ids).await;
        if statement.contains("quota where") {
            assert_eq!(
                denied(&mut broker, "github").await.code(),
                Code::Forbidden,
                "{statement}"
            );
        }
        let state = bed.apply_quota_of(&team, &limits[0], &ids).await;
        let stale = "select count(*) from allowance a join quota_set s using (tenant_id)
                     where a.quota_epoch >= s.epoch";
        assert_eq!(bed.count(stale).await, 0, "{statement}: an epoch came back");
        let again = bed.apply_quota_of(&team, &limits[0], &ids).await;
        assert!(again.damaged.is_empty(), "{statement}: {state:?}");
        assert_eq!(broker.granted("ana", "github").await.units, 1);
        assert_eq!(
            denied(&mut broker, "github").await.code(),
            Code::QuotaExhausted,
            "{statement}"
        );
        // Give back what this round used.
        bed.tamper("update allowance set state = 'Closed', returned = granted")
            .await;
        bed.tamper("update allowance_charge set open = false").await;
        bed.tamper("update quota_window set charged = 0").await;
    }
    replica.stop().await;
}

#[tokio::test]
async fn many_brokers_on_two_quotas_never_wait_for_each_other_in_a_circle() {
    let bed = Bed::new("quota_circle").await;
    let replica = bed.replica().await;
    let (team, ana) = team(&bed).await;
    let limits = [
        quota("user", ana, 60),
        quota(
            "account",
            Subject::ServiceAccount("app".parse().unwrap()),
            80,
        ),
    ];
    let ids = limits.each_ref().map(|limit| limit.id);
    for limit in &limits {
        bed.apply_quota_of(&team, limit, &ids).await;
    }
    let mut brokers = Vec::new();
    for _ in 0..6 {
        brokers.push(Obedient::new(bed.broker(&replica, &team, "app").await).await);
    }
    let reading = brokers
        .into_iter()
        .map(|broker| broker.use_up("ana", "github"));
    let done = futures::future::join_all(reading).await;
    assert_eq!(done.iter().map(|(count, _)| count).sum::<u32>(), 60);
    assert_eq!(bed.count(UNBALANCED).await, 0);
    let deadlocks = "select coalesce(sum(deadlocks), 0)::bigint from pg_stat_database
                     where datname = current_database()";
    assert_eq!(bed.count(deadlocks).await, 0);
    replica.stop().await;
}
