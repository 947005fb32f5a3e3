//! Who still holds what was taken back, and who gave it up.

use std::time::Duration;

use bursar_vault::service::Settings;
use bursar_vault::{Drain, TokenSpec};
use bursar_wire::v1alpha1::AccessRecord;

use crate::support::broker::served;
use crate::support::{Bed, Team};

/// A lease and the grace of an allowance after it.
const GRACE: Duration = Duration::from_secs(60 + 30);

async fn drain(bed: &Bed, team: &Team, token: &TokenSpec) -> Drain {
    let vault = bed.controllers.vault();
    vault.drain(&team.tenant, token.id).await.unwrap()
}

/// Open, confirmed and lapsed.
fn brokers(drain: &Drain) -> (i64, i64, i64) {
    let Drain {
        brokers_open,
        brokers_confirmed,
        brokers_lapsed,
        ..
    } = drain;
    (*brokers_open, *brokers_confirmed, *brokers_lapsed)
}

fn revoked(token: &TokenSpec) -> TokenSpec {
    let mut revoked = token.clone();
    revoked.through_version = Some(1.try_into().unwrap());
    revoked
}

#[tokio::test]
async fn a_revoked_version_drains_as_its_holders_give_it_back_and_the_receipt_tells_the_last_serve()
{
    let bed = Bed::new("drain_revoked").await;
    let (team, _, token) = bed.team_with_token().await;
    let replica = bed.replica().await;
    let mut brokers_of_it = [
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "app").await,
        bed.broker(&replica, &team, "app").await,
    ];
    let mut held = Vec::new();
    for broker in &mut brokers_of_it {
        // Two each: it is brokers that count.
        held.push((
            broker.granted("ana", "github").await,
            broker.granted("ana", "github").await,
        ));
    }
    let [gone_before, first, second] = &mut brokers_of_it;
    let before = &held[0];
    let ids = [&before.0, &before.1].map(|granted| granted.allowance_id.clone());
    gone_before.report(vec![], ids.into()).await.unwrap();
    assert_eq!(drain(&bed, &team, &token).await, Drain::default());

    bed.apply(&team, &revoked(&token)).await;
    let draining = drain(&bed, &team, &token).await;
    assert_eq!(draining.through_version, Some(1.try_into().unwrap()));
    assert_eq!(brokers(&draining), (2, 0, 0));
    let died = "select (extract(epoch from dead_time) * 1000000)::bigint from token_version";
    let taken_back = draining.taken_back_time.unwrap().timestamp().unwrap();
    assert_eq!(taken_back.as_microsecond(), bed.count(died).await);
    assert!(!draining.is_complete());
    assert_eq!(draining.last_served_time, None);
    let latest = format!(
        "select floor(extract(epoch from max(expires_time) + interval '{} s') * 1000)::bigint
         from allowance where state = 'Open'",
        GRACE.as_secs()
    );
    let certain = draining.certain_time.unwrap().timestamp().unwrap();
    assert_eq!(certain.as_millisecond(), bed.count(&latest).await);

    // One of two given back is not all.
    let (one, other) = &held[1];
    let closed = vec![one.allowance_id.clone()];
    first.report(vec![served(one, 3)], closed).await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (2, 0, 0));
    let closed = vec![other.allowance_id.clone()];
    first.report(vec![], closed).await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (1, 1, 0));

    let ids = [&held[2].0, &held[2].1].map(|granted| granted.allowance_id.clone());
    second.report(vec![], ids.into()).await.unwrap();
    let complete = drain(&bed, &team, &token).await;
    assert_eq!(brokers(&complete), (0, 2, 0));
    assert!(complete.is_complete());
    assert_eq!(complete.certain_time, None);
    let last = complete.last_served_time.unwrap().timestamp().unwrap();
    assert_eq!(last.as_millisecond(), 2_000);

    // What was recorded long after all of it had ended, or long before, is not looked for.
    for died in ["- interval '2 days'", "+ interval '3 days'"] {
        bed.tamper(&format!(
            "update token_version set dead_time = dead_time {died}"
        ))
        .await;
        assert_eq!(drain(&bed, &team, &token).await.last_served_time, None);
    }
    // But before it for people, who are told once and not again and again; not of what was
    // served of a version that lives.
    bed.store(&team, &revoked(&token), "ANOTHER").await;
    let granted = first.granted("ana", "github").await;
    let later = AccessRecord {
        last_time_ms: 3_000,
        ..served(&granted, 1)
    };
    first.report(vec![later], vec![]).await.unwrap();
    let vault = bed.vault().await;
    let told = vault.drain_of(&team.tenant, &token.name).await.unwrap();
    assert_eq!(told.1.last_served_time, complete.last_served_time);
    replica.stop().await;
}

#[tokio::test]
async fn a_holder_that_never_answers_is_counted_as_lapsed_and_as_confirmed_once_it_does() {
    let bed = Bed::with_lease("drain_lapsed", Duration::from_secs(1)).await;
    let (team, _, token) = bed.team_with_token().await;
    let settings = Settings {
        lapse_grace: Duration::from_secs(1),
        sweep_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let granted = broker.granted("ana", "github").await;
    bed.apply(&team, &revoked(&token)).await;
    bed.until_count("select count(*) from allowance where state = 'Lapsed'", 1)
        .await;
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (0, 0, 1));
    let closed = vec![granted.allowance_id.clone()];
    broker.report(vec![], closed).await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (0, 1, 0));
    replica.stop().await;
}

#[tokio::test]
async fn a_live_version_does_not_drain_and_what_was_given_back_for_an_earlier_end_is_not_counted_again()
 {
    let bed = Bed::new("drain_live").await;
    let (team, _, token) = bed.team_with_token().await;
    let replica = bed.replica().await;
    let mut first = bed.broker(&replica, &team, "app").await;
    let mut second = bed.broker(&replica, &team, "app").await;
    let old = first.granted("ana", "github").await;
    let revoked = revoked(&token);
    bed.store(&team, &revoked, "VALUE 2").await;
    let new = second.granted("ana", "github").await;
    assert_eq!(new.version, 2);
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (1, 0, 0));
    let closed = vec![old.allowance_id.clone()];
    first.report(vec![], closed).await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (0, 1, 0));

    let mut all = revoked.clone();
    all.through_version = Some(2.try_into().unwrap());
    bed.apply(&team, &all).await;
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (1, 0, 0));
    let closed = vec![new.allowance_id.clone()];
    second.report(vec![], closed).await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (0, 1, 0));
    replica.stop().await;
}

#[tokio::test]
async fn all_versions_drain_while_the_user_is_suspended_and_when_the_token_is_deleted() {
    let bed = Bed::new("drain_suspended").await;
    let (team, ana, token) = bed.team_with_token().await;
    let replica = bed.replica().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    broker.granted("ana", "github").await;

    let mut suspended = ana.clone();
    suspended.suspended = true;
    bed.apply_user(&team, &suspended).await;
    let first = drain(&bed, &team, &token).await;
    assert_eq!(brokers(&first), (1, 0, 0));
    bed.apply_user(&team, &ana).await;
    assert_eq!(drain(&bed, &team, &token).await, Drain::default());
    bed.apply_user(&team, &suspended).await;
    let second = drain(&bed, &team, &token).await;
    assert_eq!(brokers(&second), (1, 0, 0));
    assert!(first.taken_back_time.is_some() && second.taken_back_time > first.taken_back_time);
    bed.apply_user(&team, &ana).await;

    let deleted = bed.controllers.delete_token(&team.tenant, token.id, None);
    deleted.await.unwrap();
    assert_eq!(brokers(&drain(&bed, &team, &token).await), (1, 0, 0));
    replica.stop().await;
}
