//! Records are dropped by the day, and what is left still verifies.

use bursar_vault::{BadPlace, Category};

use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, Team};

const RECORDS: &str = "select count(*) from access_record";
const CHECKPOINTS: &str = "select count(*) from checkpoint";

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

    /// A partition for today, which retention has dropped.
    async fn today_again(&self) {
        self.tamper("select create_audit_partitions()").await;
    }
}

#[tokio::test]
async fn what_is_behind_the_retention_is_dropped_and_the_rest_of_each_chain_verifies() {
    let bed = Bed::new("retention").await;
    let replica = bed.replica().await;
    let mut teams = [
        Reporting::new(&bed, &replica, "one").await,
        Reporting::new(&bed, &replica, "two").await,
    ];
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
    let mut teams = [
        Reporting::new(&bed, &replica, "one").await,
        Reporting::new(&bed, &replica, "two").await,
    ];
    for team in &mut teams {
        team.report().await;
    }
    bed.days_later(91).await;
    let today = bed
        .texts("select to_char(now() at time zone 'UTC', 'YYYY-MM-DD')")
        .await;
    // Stopped when one tenant had its boundary and the other had not.
    let first = teams[0].team.tenant.id();
    let bound = bed
        .controllers
        .checkpoint_boundary(first, today[0].parse().unwrap());
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
