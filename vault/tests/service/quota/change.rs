//! Quotas that change or go while they are in use.

use std::num::NonZeroU32;

use bursar_vault::rows::{Enforcement, Subject, Window};
use bursar_wire::v1alpha1::denied::Code;

use super::{denied, team};
use crate::support::broker::served;
use crate::support::{Bed, quota, token, user};

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
    assert_eq!(first.units, 6);
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
    assert_eq!(broker.granted("ana", "github").await.units, 9);

    // Gone: nothing is counted. Made anew: as before.
    bed.delete_quota(&team, &limit, &[]).await;
    let uncounted = broker.granted("ana", "github").await;
    assert!(!uncounted.counted && uncounted.units == 100);
    let anew = bed.apply_quota(&team, &quota("limit", ana, 20)).await;
    assert_eq!(anew.used, Some(15));
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
    assert_eq!(first.units, 64, "all that a run gets that holds none");
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
    assert_eq!(second.units, 64);
    bed.delete_quota(&team, &own, &[default.id]).await;
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
    assert_eq!(broker.granted("ana", "github").await.units, 4);
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
    bed.store(&team, &github, "spare").await;
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
