//! Rows that have no more use are deleted, and no others.

use std::num::NonZeroU32;
use std::time::Duration;

use bursar_vault::rows::{Subject, Window};
use bursar_vault::service::Settings;
use bursar_vault::{QuotaSpec, UserSpec};
use bursar_wire::v1alpha1::Granted;

use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, CHARGED, quota};

/// Trims all the time.
fn busy() -> Settings {
    Settings {
        trim_interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// A broker for a user with a quota.
async fn holder(bed: &Bed, limit: impl FnOnce(&UserSpec) -> QuotaSpec) -> (Replica, Broker) {
    let (team, ana, _) = bed.team_with_token().await;
    bed.apply_quota(&team, &limit(&ana)).await;
    let replica = bed.replica_with(busy()).await;
    let broker = bed.broker(&replica, &team, "app").await;
    (replica, broker)
}

fn lifetime(ana: &UserSpec) -> QuotaSpec {
    quota("limit", Subject::User(ana.uid), 1_000)
}

async fn closed(broker: &mut Broker, used: u32) -> Granted {
    let granted = broker.granted("ana", "github").await;
    let id = granted.allowance_id.clone();
    broker
        .report(vec![served(&granted, used)], vec![id])
        .await
        .unwrap();
    granted
}

fn count_of(granted: &Granted) -> String {
    let id = &granted.allowance_id;
    format!("select count(*) from allowance where allowance_id = '{id}'")
}

impl Bed {
    async fn a_day_later(&self) {
        for statement in [
            "update allowance set granted_time = granted_time - interval '25 hours',
                                  expires_time = expires_time - interval '25 hours'",
            "update incarnation set fenced_time = fenced_time - interval '25 hours'",
        ] {
            self.tamper(statement).await;
        }
    }
}

#[tokio::test]
async fn a_closed_allowance_goes_after_a_day_and_what_it_used_stays_charged() {
    let bed = Bed::new("trim").await;
    let (replica, mut broker) = holder(&bed, lifetime).await;
    let first = closed(&mut broker, 10).await;
    let last = closed(&mut broker, 5).await;
    assert_eq!(bed.count(CHARGED).await, 15);
    bed.a_day_later().await;

    bed.until_count(&count_of(&first), 0).await;
    assert_eq!(
        bed.count("select count(*) from allowance_charge").await,
        1,
        "charges go with their allowance"
    );
    assert_eq!(
        bed.count(&count_of(&last)).await,
        1,
        "the broker may still ask for this answer again"
    );
    assert_eq!(bed.count(CHARGED).await, 15);
    closed(&mut broker, 1).await;
    assert_eq!(bed.count(CHARGED).await, 16);
    replica.stop().await;
}

#[tokio::test]
async fn what_lapsed_stays_while_its_broker_may_account_for_it() {
    let bed = Bed::new("trim_lapsed").await;
    let (replica, mut broker) = holder(&bed, lifetime).await;
    let lapsed = broker.granted("ana", "github").await;
    let gone = closed(&mut broker, 1).await;
    closed(&mut broker, 1).await;
    bed.tamper(&format!(
        "update allowance set state = 'Lapsed' where allowance_id = '{}'",
        lapsed.allowance_id
    ))
    .await;
    bed.a_day_later().await;
    bed.until_count(&count_of(&gone), 0).await;
    assert_eq!(bed.count(&count_of(&lapsed)).await, 1);
    broker
        .report(vec![served(&lapsed, 3)], vec![])
        .await
        .unwrap();

    bed.tamper("update incarnation set fenced_time = now()")
        .await;
    bed.a_day_later().await;
    bed.until_count("select count(*) from allowance", 0).await;
    replica.stop().await;
}

#[tokio::test]
async fn an_incarnation_stays_as_long_as_a_record_of_its_chain() {
    let bed = Bed::new("trim_incarnation").await;
    let (replica, mut broker) = holder(&bed, lifetime).await;
    closed(&mut broker, 1).await;
    closed(&mut broker, 1).await;
    bed.tamper("update incarnation set fenced_time = now()")
        .await;
    bed.a_day_later().await;
    bed.until_count("select count(*) from allowance", 0).await;

    // Retention has dropped one of two records, and this trimming has ended.
    let dropped = async |records: u32| {
        bed.tamper(&format!(
            "update audit_chain set boundary_no = {records}, boundary_mac = mac"
        ))
        .await;
    };
    dropped(1).await;
    let marker = "insert into quota_window (tenant_id, usage_id, window_no, description, charged,
                                            end_time)
                  select tenant_id, gen_random_uuid(), 0, 'over', 0, 'epoch' from tenant";
    let windows = "select count(*) from quota_window where end_time = 'epoch'";
    for _ in 0..2 {
        bed.tamper(marker).await;
        bed.until_count(windows, 0).await;
    }
    assert_eq!(bed.count("select count(*) from incarnation").await, 1);
    dropped(2).await;
    bed.until_count("select count(*) from incarnation", 0).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_window_goes_when_it_ended_before_the_retention() {
    let bed = Bed::new("trim_windows").await;
    let daily = |ana: &UserSpec| QuotaSpec {
        window: Window::Period(NonZeroU32::new(86_400).unwrap()),
        ..lifetime(ana)
    };
    let (replica, mut broker) = holder(&bed, daily).await;
    closed(&mut broker, 1).await;
    let of_today = "select count(*) from quota_window where end_time > now()
                        and end_time <= now() + interval '1 day' and window_no =
                            extract(epoch from end_time) / 86400 - 1";
    assert_eq!(bed.count(of_today).await, 1);
    // One on the day before and one behind the retention, and one without an end.
    bed.tamper(
        "insert into quota_window (tenant_id, usage_id, window_no, description, charged, end_time)
         select tenant_id, usage_id, window_no - days, description, 7,
                end_time - make_interval(days => days)
         from quota_window, unnest(array[1, 92]) as days
         union all
         select tenant_id, gen_random_uuid(), 0, 'endless', 7, null from tenant",
    )
    .await;
    bed.until_count("select count(*) from quota_window", 3)
        .await;
    assert_eq!(bed.count(CHARGED).await, 1 + 7 + 7);
    assert_eq!(bed.count(of_today).await, 1);
    replica.stop().await;
}

#[tokio::test]
async fn trimming_waits_for_nobody() {
    let bed = Bed::new("trim_locked").await;
    let (replica, mut broker) = holder(&bed, lifetime).await;
    // While nothing is old.
    let locked = closed(&mut broker, 1).await;
    let free = closed(&mut broker, 1).await;
    closed(&mut broker, 1).await;
    replica.stop().await;
    bed.a_day_later().await;
    let row = format!("allowance where allowance_id = '{}'", locked.allowance_id);
    let held = bed.lock(&row).await;
    let replica = bed.replica_with(busy()).await;
    bed.until_count(&count_of(&free), 0).await;
    assert_eq!(bed.count(&count_of(&locked)).await, 1);
    held.commit().await.unwrap();
    bed.until_count(&count_of(&locked), 0).await;
    replica.stop().await;
}

#[tokio::test]
async fn changes_are_kept_for_a_day_and_denials_for_a_month() {
    let bed = Bed::new("trim_short").await;
    let team = bed.team("team").await;
    let tenant = team.tenant.id();
    // More than one batch, and one in each hour that is not over yet.
    for statement in [
        "insert into change (shard, seq, tenant_id, kind, changed_time)
         select 0, n, gen_random_uuid(), 'Widen', now() + interval '1 hour' * (n - 23)
         from generate_series(-5, 0) as n",
        &format!(
            "insert into denial
             select '{tenant}'::uuid, 'app-' || n, 'Forbidden', now() - interval '721 hours', 1, now()
             from generate_series(1, 1200) as n
             union all
             select '{tenant}'::uuid, 'app', 'Forbidden', now() - interval '719 hours', 1, now()"
        ),
        &format!(
            "insert into denial_told
             select '{tenant}'::uuid, 'pod-' || n, now() - interval '121 minutes', 1
             from generate_series(1, 1200) as n
             union all
             select '{tenant}'::uuid, 'pod', now() - interval '1 hour', 1"
        ),
    ] {
        bed.tamper(statement).await;
    }
    let replica = bed.replica_with(busy()).await;
    for (table, kept) in [
        ("change where seq < 0", 0),
        ("change where seq = 0", 1),
        ("denial", 1),
        ("denial_told", 1),
    ] {
        bed.until_count(&format!("select count(*) from {table}"), kept)
            .await;
    }
    replica.stop().await;
}
