//! What told only of dropped records goes with them, and nothing else.

use bursar_vault::{Anchor, Wrong};

use super::{Bed, CHECKPOINTS, Reporting, auditor, served, two_teams};

const REGULAR_HEADS: &str = "select count(*) from checkpoint_head join checkpoint
                             using (tenant_id, checkpoint_no) where kind = 'Regular'";
const HEADS: &str = "select count(*) from checkpoint_head";
const CHAINS: &str = "select count(*) from audit_chain";

impl Bed {
    /// Drops today's records, and makes room for new ones.
    async fn drop_today(&self) {
        self.days_later(91).await;
        assert_eq!(self.controllers.drop_expired_records().await.unwrap(), 1);
        self.days_later(0).await;
        self.today_again().await;
    }

    async fn checkpointed(&self) -> Anchor {
        let written = self.controllers.checkpoint_all().await.unwrap();
        written.anchor.unwrap()
    }

    async fn verifies(&self, team: &Reporting, anchor: &Anchor) {
        let vault = self.controllers.vault();
        let verified = vault.verify_audit(team.team.tenant.id(), Some(anchor));
        assert_eq!(verified.await.unwrap().first_bad, None);
    }
}

#[tokio::test]
async fn heads_of_dropped_records_go_and_those_of_later_ones_stay_and_are_missed() {
    let bed = Bed::new("trimmed").await;
    let replica = bed.replica().await;
    let mut teams = two_teams(&bed, &replica).await;
    for _ in 0..2 {
        for team in &mut teams {
            team.report().await;
        }
        bed.checkpointed().await;
    }
    // Up to yesterday nothing is behind a boundary.
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 0);
    assert_eq!(bed.count(HEADS).await, 4);
    bed.drop_today().await;
    assert_eq!(
        (bed.count(REGULAR_HEADS).await, bed.count(HEADS).await),
        (0, 2)
    );
    // No chain seems to have moved since.
    let checkpoints = bed.count(CHECKPOINTS).await;
    let anchor = bed.checkpointed().await;
    assert_eq!(bed.count(CHECKPOINTS).await, checkpoints);
    for team in &mut teams {
        bed.verifies(team, &anchor).await;
        team.report().await;
    }
    let anchor = bed.checkpointed().await;
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 0);
    assert_eq!(bed.count(REGULAR_HEADS).await, 2);
    for team in &teams {
        bed.verifies(team, &anchor).await;
    }
    assert_eq!(
        bed.tamper("delete from checkpoint_head where checkpoint_no = 4")
            .await,
        2
    );
    for team in &teams {
        let bad = team.bad_place(&bed).await.unwrap();
        let place = (bad.checkpoint_no, bad.wrong);
        assert_eq!(place, (Some(4), Wrong::CheckpointHeadsChanged), "{bad}");
    }
    replica.stop().await;
}

#[tokio::test]
async fn trimming_that_was_stopped_halfway_verifies_and_goes_on() {
    let bed = Bed::new("trimmed_halfway").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    for _ in 0..3 {
        team.report().await;
        bed.checkpointed().await;
    }
    // Nothing is trimmed: as if it had stopped before the first batch.
    bed.tamper("alter function trim_checkpoint_heads rename to stopped")
        .await;
    bed.days_later(91).await;
    bed.controllers.drop_expired_records().await.unwrap_err();
    assert_eq!(bed.count(REGULAR_HEADS).await, 3);
    assert_eq!(team.bad_place(&bed).await, None);
    bed.tamper("delete from checkpoint_head where checkpoint_no = 1")
        .await;
    assert_eq!(team.bad_place(&bed).await, None);
    bed.tamper("alter function stopped rename to trim_checkpoint_heads")
        .await;
    // The day is gone, and what told of it goes all the same.
    bed.controllers.drop_expired_records().await.unwrap();
    assert_eq!(bed.count(REGULAR_HEADS).await, 0);
    assert_eq!(team.bad_place(&bed).await, None);
    replica.stop().await;
}

#[tokio::test]
async fn the_chain_of_a_run_that_is_gone_goes_and_the_one_of_people_stays() {
    let bed = Bed::new("trimmed_chains").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    let mut gone = bed.broker(&replica, &team.team, "app").await;
    let granted = gone.granted("ana", "github").await;
    let record = served(&granted, 1);
    gone.report(vec![record], vec![]).await.unwrap();
    team.report().await;
    let person = auditor();
    let vault = bed.controllers.vault();
    let recorded = vault.record_verification(&team.team.tenant, &person);
    recorded.await.unwrap();
    bed.checkpointed().await;
    bed.drop_today().await;
    assert_eq!(bed.count(CHAINS).await, 3);

    // As the vault does a day after the end of a run.
    let run = gone.incarnation_uuid();
    let deleted = format!("delete from incarnation where incarnation_id = '{run}'");
    assert_eq!(bed.tamper(&deleted).await, 1);
    assert_eq!(bed.controllers.drop_expired_records().await.unwrap(), 0);
    let left = format!("{CHAINS} where chain_id <> '{run}'");
    assert_eq!((bed.count(CHAINS).await, bed.count(&left).await), (2, 2));
    let checkpoints = bed.count(CHECKPOINTS).await;
    let anchor = bed.checkpointed().await;
    assert_eq!(bed.count(CHECKPOINTS).await, checkpoints);
    bed.verifies(&team, &anchor).await;
    // It writes to no chain any more; the other run and people go on with theirs.
    let again = vec![served(&granted, 1)];
    gone.report(again, vec![]).await.unwrap_err();
    team.report().await;
    let recorded = vault.record_verification(&team.team.tenant, &person);
    recorded.await.unwrap();
    assert_eq!(bed.count(CHAINS).await, 2);
    let firsts = "select count(*) from access_record where record_no = 1";
    assert_eq!(bed.count(firsts).await, 0);
    let anchor = bed.checkpointed().await;
    bed.verifies(&team, &anchor).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_chain_that_somebody_lets_begin_anew_is_not_taken_for_a_dropped_one() {
    let bed = Bed::new("trimmed_anew").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    for _ in 0..2 {
        team.report().await;
    }
    bed.checkpointed().await;
    bed.drop_today().await;
    // Its records carry the numbers of those that were dropped.
    assert_eq!(bed.tamper("delete from audit_chain").await, 1);
    team.report().await;
    bed.checkpointed().await;
    assert_eq!(
        bed.count("select max(record_no) from access_record").await,
        2
    );
    for table in ["access_record", "audit_chain"] {
        bed.tamper(&format!("delete from {table}")).await;
    }
    let bad = team.bad_place(&bed).await.unwrap();
    let wrong = Wrong::RecordsCutBeforeCheckpoint {
        checkpoint: 3,
        through: 2,
    };
    assert_eq!(bad.wrong, wrong, "{bad}");
    replica.stop().await;
}

#[tokio::test]
async fn what_was_cut_before_its_day_was_dropped_is_found_afterwards() {
    let bed = Bed::new("trimmed_cut").await;
    let replica = bed.replica().await;
    let mut team = Reporting::new(&bed, &replica, "one").await;
    for _ in 0..2 {
        team.report().await;
        bed.checkpointed().await;
    }
    bed.tamper("delete from access_record where record_no > 2")
        .await;
    let back = "update audit_chain h set record_no = r.record_no, mac = r.mac,
                       recorded_time = r.recorded_time
                from access_record r where r.chain_id = h.chain_id and r.record_no = 2";
    assert_eq!(bed.tamper(back).await, 1);
    bed.days_later(91).await;
    bed.controllers.drop_expired_records().await.unwrap();
    assert_eq!(bed.count(REGULAR_HEADS).await, 1);
    let wrong = Wrong::RecordsCutBeforeCheckpoint {
        checkpoint: 2,
        through: 4,
    };
    assert_eq!(team.bad_place(&bed).await.unwrap().wrong, wrong);
    // And when the run is gone.
    assert_eq!(bed.tamper("delete from incarnation").await, 1);
    for _ in 0..2 {
        bed.controllers.drop_expired_records().await.unwrap();
        assert_eq!(team.bad_place(&bed).await.unwrap().wrong, wrong);
    }
    replica.stop().await;
}
