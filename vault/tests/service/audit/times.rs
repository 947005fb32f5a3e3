//! When records say that they were made.

use bursar_vault::{BadPlace, Wrong};
use tonic::Code;

use super::Scene;
use crate::support::broker::served;

impl Scene {
    /// What the first chain's next report is answered, when it is not taken.
    async fn refused(&mut self) -> Code {
        let [holder, _] = &mut self.holders;
        let record = served(&holder.granted, 1);
        let refused = holder.broker.report(vec![record], vec![]).await;
        refused.err().unwrap().code()
    }

    /// As if the database's clock were so far ahead when reports are taken.
    async fn clock_of_reports(&self, minutes: u32) {
        let change = format!(
            "do $do$ begin
                 execute regexp_replace(
                     pg_get_functiondef('open_report'::regproc),
                     'clock_timestamp\\(\\)( \\+ interval ''\\d+ min'')?',
                     'clock_timestamp() + interval ''{minutes} min''');
             end $do$"
        );
        self.bed.tamper(&change).await;
    }

    /// Records a report by a clock so far ahead, and another once it is right again.
    async fn serve_ahead(&mut self, minutes: u32) {
        self.clock_of_reports(minutes).await;
        self.holders[0].serve(1).await;
        self.clock_of_reports(0).await;
        self.holders[0].serve(1).await;
    }

    async fn place(&self) -> Option<(Option<i64>, Wrong)> {
        let bad: Option<BadPlace> = self.verify_of(&self.team, None).await.first_bad;
        bad.map(|bad| {
            assert_eq!(bad.chain_id, Some(self.chain()));
            (bad.record_no, bad.wrong)
        })
    }
}

#[tokio::test]
async fn no_record_takes_a_time_that_somebody_gave_the_end_of_its_chain() {
    let mut scene = Scene::new("audit_false_time").await;
    let ahead = "update audit_chain set recorded_time = now() + interval '6 days' where CHAIN";
    scene.bed.tamper(&scene.filled(ahead)).await;
    assert_eq!(scene.refused().await, Code::Internal);
    let failures = "select count(*) from integrity_failure
                    where table_name = 'audit_chain' and row_key = 'CHAIN'";
    let failures = failures.replace("CHAIN", &scene.chain().to_string());
    assert_eq!(scene.bed.count(&failures).await, 1);
    // Nor with a record that says the same, for that is not genuine.
    let copy = "insert into access_record
                select (jsonb_populate_record(r,
                            jsonb_build_object('recorded_time', h.recorded_time))).*
                from access_record r join audit_chain h using (tenant_id, chain_id, record_no)
                where h.CHAIN";
    assert_eq!(scene.bed.tamper(&scene.filled(copy)).await, 1);
    assert_eq!(scene.refused().await, Code::Internal);
    let late = "select count(*) from access_record where recorded_time > now()";
    assert_eq!(scene.bed.count(late).await, 1);

    scene.restore("saved").await;
    scene.holders[0].serve(1).await;
    assert_eq!(scene.place().await, None);
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_and_is_right_again_leaves_what_verifies_if_checkpoints_saw_it() {
    let mut scene = Scene::new("audit_clock").await;
    // The next checkpoint is later than this one of the other tenant.
    let seen = "update checkpoint set checkpoint_time = now() + interval '30 min' where not TENANT";
    scene.bed.tamper(&scene.filled(seen)).await;
    scene.serve_ahead(34).await;
    assert_eq!(
        scene.place().await,
        Some((Some(7), Wrong::RecordOfTheFuture))
    );
    scene.bed.controllers.checkpoint_all().await.unwrap();
    assert_eq!(scene.place().await, None);

    // Further ahead than any checkpoint says.
    scene.serve_ahead(45).await;
    assert_eq!(
        scene.place().await,
        Some((Some(9), Wrong::RecordOfTheFuture))
    );
    scene.bed.controllers.checkpoint_all().await.unwrap();
    let ahead = Wrong::RecordAhead { checkpoint: 4 };
    assert_eq!(scene.place().await, Some((Some(9), ahead)));
    // It hides nothing else.
    let other = scene.holders[1].chain();
    let changed = format!("update access_record set count = 9 where chain_id = '{other}'");
    scene.bed.tamper(&changed).await;
    let bad = scene.verify_of(&scene.team, None).await.first_bad.unwrap();
    assert_eq!(
        (bad.chain_id, bad.wrong),
        (Some(other), Wrong::RecordChanged)
    );
    scene.replica.stop().await;
}

#[tokio::test]
async fn times_do_not_go_back_along_a_chain() {
    let mut scene = Scene::new("audit_times").await;
    scene.clock_of_reports(34).await;
    scene.holders[0].serve(1).await;
    scene.clock_of_reports(0).await;
    let back = "update audit_chain set recorded_time = '2000-01-01' where CHAIN";
    scene.bed.tamper(&scene.filled(back)).await;
    scene.holders[0].serve(1).await;
    assert_eq!(scene.place().await, Some((Some(8), Wrong::RecordEarlier)));
    scene.replica.stop().await;
}
