//! Records are dropped by the day, and what is left still verifies.

mod trimmed;

use bursar_vault::{BadPlace, Category, Person, VaultError, Wrong};
use jiff::SignedDuration;

use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, Team};

const RECORDS: &str = "select count(*) from access_record";
const CHECKPOINTS: &str = "select count(*) from checkpoint";
const BOUNDARIES: &str = "select count(*) from checkpoint where kind = 'Boundary'";
/// A copy of the first record of each chain in another place of it.
const COPIES: &str = "insert into access_record
    select (jsonb_populate_record(r, PLACE)).* from access_record r where record_no = 1";

struct Reporting {
    team: Team,
    broker: Broker,
}

impl Reporting {
    async fn new(bed: &Bed, replica: &Replica, namespace: &str) -> Self {
        let team = bed.team(namespace).await;
        let ana = bed.user(&team, "ana").await;
        bed.token(&team, &ana, "github").await;
        let broker = bed.broker(replica, &team, "app").await;
        Self { team, broker }
    }

    async fn report(&mut self) {
        let granted = self.broker.granted("ana", "github").await;
        let records = vec![served(&granted, 1), served(&granted, 2)];
        self.broker.report(records, vec![]).await.unwrap();
    }

    async fn bad_place(&self, bed: &Bed) -> Option<BadPlace> {
        let vault = bed.controllers.vault();
        let verified = vault.verify_audit(self.team.tenant.id(), None).await;
        verified.unwrap().first_bad
    }
}

/// Two namespaces, each with its broker.
async fn two_teams(bed: &Bed, replica: &Replica) -> [Reporting; 2] {
    [
        Reporting::new(bed, replica, "one").await,
        Reporting::new(bed, replica, "two").await,
    ]
}

fn auditor() -> Person {
    Person {
        namespace: "security".parse().unwrap(),
        service_account_name: "auditor".parse().unwrap(),
        name: "ana@example.com".parse().unwrap(),
    }
}

impl Bed {
    /// As if so many days had passed for retention.
    async fn days_later(&self, days: i32) {
        self.tamper(
            "alter table audit_retention drop constraint if exists audit_retention_days_check",
        )
        .await;
        self.tamper(&format!("update audit_retention set days = 90 - {days}"))
            .await;
    }

    /// A partition for a day behind the retention, with nothing in it, and its noon.
    async fn old_day(&self) -> String {
        self.tamper(
            "do $$ declare d date := (now() at time zone 'UTC')::date - 91;
             begin
                 execute format('create table access_record_%s (like access_record including all)',
                                to_char(d, 'YYYYMMDD'));
                 execute format('alter table access_record_%s owner to %I',
                                to_char(d, 'YYYYMMDD'), current_database());
                 execute format('alter table access_record attach partition access_record_%s
                                 for values from (%L) to (%L)', to_char(d, 'YYYYMMDD'),
                                d::timestamp at time zone 'UTC',
                                (d + 1)::timestamp at time zone 'UTC');
             end $$",
        )
        .await;
        "((now() at time zone 'UTC')::date - 91 + time '12:00') at time zone 'UTC'".to_owned()
    }

    /// A partition for today, which retention has dropped.
    async fn today_again(&self) {
        self.tamper("select create_audit_partitions()").await;
    }
}

#[tokio::test]
async fn what_is_behind_the_retention_is_dropped_and_the_rest_of_each_chain_verifies() {
    let bed = Bed::new("retention").await;
    let replica = bed.replica().await;
    let mut teams = two_teams(&bed, &replica).await;
    for _ in 0..2 {
        for team in &mut teams {
            team.report().await;
        }
        bed.controllers.checkpoint_all().await.unwrap();
        bed.days_later(90).await;
        let checkpoints = bed.count(CHECKPOINTS).await;
        assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 0);
        assert_eq!(
            (bed.count(RECORDS).await, bed.count(CHECKPOINTS).await),
            (4, checkpoints)
        );

        bed.days_later(91).await;
        assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 1);
        assert_eq!(bed.count(RECORDS).await, 0);
        for team in &teams {
            assert_eq!(team.bad_place(&bed).await, None);
        }
        bed.days_later(0).await;
        bed.today_again().await;
    }
    teams[0].report().await;
    assert_eq!(
        bed.count("select min(record_no) from access_record").await,
        5,
        "the chain goes on"
    );
    assert_eq!(teams[0].bad_place(&bed).await, None);
    replica.stop().await;
}

#[tokio::test]
async fn retention_that_was_stopped_anywhere_goes_on_the_next_time() {
    let bed = Bed::new("retention_stopped").await;
    let replica = bed.replica().await;
    let mut teams = two_teams(&bed, &replica).await;
    for team in &mut teams {
        team.report().await;
    }
    bed.days_later(91).await;
    let today = bed.today().await;
    // Stopped when one tenant had its boundary and the other had not.
    let first = teams[0].team.tenant.id();
    let bound = bed.controllers.checkpoint_boundary(first, today);
    bound.await.unwrap();
    for team in &teams {
        assert_eq!(team.bad_place(&bed).await, None);
    }
    // Stopped when both had theirs: a reader holds the day up.
    let mut reader = bed.sql.begin().await.unwrap();
    sqlx::query("select from access_record")
        .execute(&mut *reader)
        .await
        .unwrap();
    let held_up = bed.controllers.drop_expired_records().await.unwrap_err();
    assert_eq!(held_up.category(), Category::Unavailable, "{held_up}");
    for team in &teams {
        assert_eq!(team.bad_place(&bed).await, None);
    }
    reader.rollback().await.unwrap();
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 1);
    for team in &teams {
        assert_eq!(team.bad_place(&bed).await, None);
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_day_that_somebody_dropped_without_a_boundary_is_missed() {
    let bed = Bed::new("retention_bypassed").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    team.report().await;
    assert_eq!(team.bad_place(&bed).await, None);
    bed.tamper(
        "do $$ begin execute format('drop table access_record_%s',
                                    to_char(now() at time zone 'UTC', 'YYYYMMDD')); end $$",
    )
    .await;
    assert!(team.bad_place(&bed).await.is_some());
    bed.today_again().await;
    team.report().await;
    assert!(team.bad_place(&bed).await.is_some());
    replica.stop().await;
}

#[tokio::test]
async fn a_record_that_was_moved_to_an_old_day_is_not_bound_and_nothing_is_dropped() {
    let bed = Bed::new("retention_moved").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    for _ in 0..3 {
        team.report().await;
    }
    let noon = bed.old_day().await;
    let moved = format!("update access_record set recorded_time = {noon} where record_no = 4");
    assert_eq!(bed.tamper(&moved).await, 1);
    let error = bed.controllers.drop_expired_records().await.unwrap_err();
    assert_eq!(error.category(), Category::Integrity, "{error}");
    assert_eq!(bed.count(BOUNDARIES).await, 0);
    assert_eq!(bed.count(RECORDS).await, 6);
    let recorded = "select count(*) from integrity_failure where table_name = 'access_record'";
    assert_eq!(bed.count(recorded).await, 1);
    let bad = team.bad_place(&bed).await.unwrap();
    assert_eq!(bad.wrong, Wrong::RecordChanged);
    replica.stop().await;
}

#[tokio::test]
async fn a_record_that_was_added_to_an_old_day_is_not_bound_and_the_other_tenants_are() {
    let bed = Bed::new("retention_added").await;
    let replica = bed.replica().await;
    let mut teams = Vec::new();
    for name in ["one", "two", "three"] {
        let mut team = Reporting::new(&bed, &replica, name).await;
        team.report().await;
        teams.push(team);
    }
    teams.sort_by_key(|team| team.team.tenant.id().as_uuid());
    let first = teams[0].team.tenant.id();
    bed.days_later(91).await;
    let added = COPIES.replace("PLACE", "'{\"record_no\": 1000000}'");
    let added = format!("{added} and tenant_id = '{first}'");
    let mut intruder = bed.intruder().await;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(added)).execute(&mut intruder);
    assert_eq!(done.await.unwrap().rows_affected(), 1);
    let error = bed.controllers.drop_expired_records().await.unwrap_err();
    assert_eq!(error.category(), Category::Integrity, "{error}");
    assert_eq!(bed.count(BOUNDARIES).await, 2);
    assert_eq!(bed.count(RECORDS).await, 7);

    // What was added is found, and without it all goes on.
    let bad = teams[0].bad_place(&bed).await.unwrap();
    assert_eq!(bad.wrong, Wrong::RecordRemoved { next: 1_000_000 });
    bed.tamper("delete from access_record where record_no = 1000000")
        .await;
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 1);
    for team in &teams {
        assert_eq!(team.bad_place(&bed).await, None);
    }
    replica.stop().await;
}

#[tokio::test]
async fn records_of_a_tenant_that_never_was_do_not_keep_a_day() {
    let bed = Bed::new("retention_nobodys").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    team.report().await;
    bed.days_later(91).await;
    let added = COPIES.replace(
        "PLACE",
        "jsonb_build_object('tenant_id', gen_random_uuid())",
    );
    let mut intruder = bed.intruder().await;
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(added)).execute(&mut intruder);
    assert_eq!(done.await.unwrap().rows_affected(), 1);
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 1);
    assert_eq!(bed.count(RECORDS).await, 0);
    assert_eq!(team.bad_place(&bed).await, None);
    replica.stop().await;
}

#[tokio::test]
async fn a_day_that_would_be_dropped_during_a_verification_waits_for_it() {
    let bed = Bed::new("retention_verified").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    team.report().await;
    bed.days_later(91).await;
    let today = bed.today().await;
    let tenant = team.team.tenant.id();
    let bound = bed.controllers.checkpoint_boundary(tenant, today);
    bound.await.unwrap();

    // The verification has its snapshot, and waits for the checkpoints.
    let mut gate = bed.sql.begin().await.unwrap();
    sqlx::raw_sql("lock table checkpoint in access exclusive mode")
        .execute(&mut *gate)
        .await
        .unwrap();
    let vault = bed.controllers.vault().clone();
    let verifying = tokio::spawn(async move { vault.verify_audit(tenant, None).await });
    bed.until_waiting(1).await;
    // A day is dropped in between, unless the verification keeps that out.
    let locked = sqlx::query("lock table access_record in access exclusive mode nowait")
        .execute(&mut *gate)
        .await;
    if locked.is_ok() {
        sqlx::query("select drop_audit_partition((now() at time zone 'UTC')::date)")
            .execute(&mut *gate)
            .await
            .unwrap();
        gate.commit().await.unwrap();
    } else {
        gate.rollback().await.unwrap();
    }
    assert_eq!(verifying.await.unwrap().unwrap().first_bad, None);
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 1);
    assert_eq!(team.bad_place(&bed).await, None);
    replica.stop().await;
}

#[tokio::test]
async fn who_holds_the_end_of_a_chain_to_add_to_it_is_ahead_of_retention() {
    let bed = Bed::new("retention_order").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    team.report().await;
    let tenant = team.team.tenant.id();
    let chain = sqlx::query(
        "insert into audit_chain select tenant_id, tenant_id, 0, now(), mac from audit_chain",
    );
    chain.execute(&bed.sql).await.unwrap();
    // Whoever adds to the tenant's own chain waits for its end.
    let mut gate = bed.sql.begin().await.unwrap();
    sqlx::query("select from audit_chain where chain_id = tenant_id for update")
        .execute(&mut *gate)
        .await
        .unwrap();
    let vault = bed.controllers.vault().clone();
    let adding = tokio::spawn(async move {
        let tenant = vault.tenant_by_id(tenant).await?.unwrap();
        vault.record_verification(&tenant, &auditor()).await
    });
    bed.until_waiting(1).await;
    let mut retention = bed.sql.begin().await.unwrap();
    let refused = sqlx::query("lock table access_record in access exclusive mode nowait")
        .execute(&mut *retention)
        .await;
    let refused = refused.expect_err("retention would wait for the chain, and it for retention");
    let code = refused.as_database_error().unwrap().code().unwrap();
    assert_eq!(code, "55P03", "{refused}");
    drop(retention);
    gate.rollback().await.unwrap();
    adding.await.unwrap().unwrap();
    replica.stop().await;
}

#[tokio::test]
async fn nothing_is_dropped_by_a_clock_of_the_database_that_runs_ahead() {
    let bed = Bed::new("retention_clock").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    team.report().await;
    bed.days_later(91).await;
    for (minutes, dropped) in [(-90, false), (-30, true)] {
        let off = SignedDuration::from_mins(minutes);
        let controllers = bed.controllers_off_by(off).await;
        match controllers.drop_expired_records().await {
            Err(VaultError::ClocksApart { .. }) => assert!(!dropped),
            other => assert_eq!((other.unwrap(), dropped), (1, true)),
        }
        assert_eq!(bed.count(RECORDS).await == 0, dropped);
    }
    replica.stop().await;
}
