//! Chains, checkpoints and boundaries as they are written.

use std::time::Duration;

use bursar_vault::{Category, VaultError, Wrong};
use jiff::SignedDuration;
use tokio::sync::watch;
use tonic::Code;

use super::{Scene, holder};
use crate::support::Bed;

#[tokio::test]
async fn a_log_that_is_being_written_verifies() {
    let bed = Bed::new("audit_busy").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let (stop, stopped) = watch::channel(false);
    let mut holders = Vec::new();
    for user in ["ana", "bo", "eva"] {
        holders.push(holder(&bed, &replica, &team, user).await);
    }
    let writing = holders.into_iter().map(async |mut holder| {
        let mut written = 0_u64;
        while !*stopped.borrow() && written < 100 {
            holder.serve(1).await;
            written += 1;
        }
        written
    });
    let verifying = async {
        let vault = bed.controllers.vault();
        for _ in 0..10 {
            let checkpoints = bed.controllers.checkpoint_all().await.unwrap();
            let verified = vault
                .verify_audit(team.tenant.id(), checkpoints.anchor.as_ref())
                .await;
            assert_eq!(verified.unwrap().first_bad, None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.send(true).unwrap();
    };
    let (written, ()) = tokio::join!(futures::future::join_all(writing), verifying);
    let vault = bed.controllers.vault();
    let verified = vault.verify_audit(team.tenant.id(), None).await.unwrap();
    assert_eq!(verified.records, written.iter().sum::<u64>());
    assert_eq!((verified.chains, verified.first_bad), (3, None));
    replica.stop().await;
}

#[tokio::test]
async fn a_checkpoint_is_written_only_when_a_chain_moved_and_only_by_the_leader() {
    let mut scene = Scene::new("audit_moves").await;
    let checkpoints = "select count(*) from checkpoint";
    assert_eq!(scene.bed.count(checkpoints).await, 3);
    let anchor = scene.bed.controllers.checkpoint_all().await.unwrap();
    assert_eq!(scene.bed.count(checkpoints).await, 4);
    let again = scene.bed.controllers.checkpoint_all().await.unwrap();
    assert_eq!((scene.bed.count(checkpoints).await, again), (4, anchor));
    // Only what moved is bound again.
    scene.holders[1].serve(1).await;
    assert_ne!(
        scene.bed.controllers.checkpoint_all().await.unwrap(),
        anchor
    );
    let heads = "select count(*) from checkpoint_head where checkpoint_no = 4";
    assert_eq!(scene.bed.count(heads).await, 1);

    let next = scene.bed.controllers_elsewhere().await;
    scene.holders[1].serve(1).await;
    let refused = scene.bed.controllers.checkpoint_all().await.err().unwrap();
    assert_eq!(refused.category(), Category::Superseded);
    assert_eq!(scene.bed.count(checkpoints).await, 5);
    next.checkpoint_all().await.unwrap();
    assert_eq!(scene.bed.count(checkpoints).await, 6);
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_chain_begins_behind_what_was_dropped_up_to_a_boundary() {
    let mut scene = Scene::new("audit_boundary").await;
    let today = scene.bed.today().await;
    let controllers = &scene.bed.controllers;
    let tenant = scene.team.tenant.id();
    // Nothing was recorded up to yesterday.
    let yesterday = today.yesterday().unwrap();
    let empty = controllers.checkpoint_boundary(tenant, yesterday).await;
    assert_eq!(empty.unwrap(), 3);
    let heads = "select count(*) from checkpoint_head where checkpoint_no = 3";
    assert_eq!(scene.bed.count(heads).await, 0);
    let boundary = controllers.checkpoint_boundary(tenant, today).await;
    assert_eq!(boundary.unwrap(), 4);

    // As retention does.
    let begin = "update audit_chain a set boundary_no = h.record_no, boundary_mac = h.mac
                 from checkpoint_head h
                 where h.tenant_id = a.tenant_id and h.chain_id = a.chain_id
                   and h.checkpoint_no = 4 and a.TENANT";
    for statement in [begin, "delete from access_record where TENANT"] {
        scene.bed.tamper(&scene.filled(statement)).await;
    }
    assert_eq!(scene.first_bad().await, None);
    scene.holders[0].serve(2).await;
    let checkpoints = scene.bed.controllers.checkpoint_all().await.unwrap();
    let anchor = checkpoints.anchor.as_ref();
    let verified = scene.verify_of(&scene.team, anchor).await;
    assert_eq!((verified.records, verified.checkpoints), (2, 5));
    assert_eq!(verified.first_bad, None);
    // What came since is missed as ever.
    let first = scene.filled("delete from access_record where CHAIN and record_no = 7");
    scene.bed.tamper(&first).await;
    let bad = scene.first_bad().await.unwrap();
    assert_eq!(
        (bad.chain_id, bad.record_no),
        (Some(scene.chain()), Some(7))
    );
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_boundary_that_goes_further_than_a_checkpoint_long_after_its_day_is_found() {
    let mut scene = Scene::new("audit_boundary_late").await;
    let today = scene.bed.today().await;
    let tenant = scene.team.tenant.id();
    // The next checkpoint is later than this one of the other tenant.
    let ahead = "update checkpoint set checkpoint_time = now() + interval '4 days'
                 where not TENANT";
    scene.bed.tamper(&scene.filled(ahead)).await;
    // The machine's clock is as far ahead.
    let days = SignedDuration::from_hours(4 * 24);
    let controllers = scene.bed.controllers_off_by(days).await;
    controllers.checkpoint_all().await.unwrap();
    let bound = controllers.checkpoint_boundary(tenant, today).await;
    assert_eq!(bound.unwrap(), 4);
    assert_eq!(scene.verify_of(&scene.team, None).await.first_bad, None);
    scene.holders[0].serve(1).await;
    let bound = controllers.checkpoint_boundary(tenant, today);
    assert_eq!(bound.await.unwrap(), 5);
    let bad = scene.verify_of(&scene.team, None).await.first_bad.unwrap();
    let wrong = Wrong::BoundaryTooLate {
        checkpoint: 5,
        earlier: 6,
    };
    assert_eq!(
        (bad.chain_id, bad.record_no, bad.wrong),
        (Some(scene.chain()), Some(7), wrong)
    );
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_false_time_of_one_checkpoint_is_not_handed_on_to_others() {
    let scene = Scene::new("audit_false_checkpoint").await;
    let checkpoints = "select count(*) from checkpoint";
    let before = scene.bed.count(checkpoints).await;
    for (time, is_believed) in [
        ("'infinity'", false),
        ("now() + interval '4 days'", false),
        ("now() + interval '30 min'", true),
    ] {
        let ahead = format!("update checkpoint set checkpoint_time = {time} where not TENANT");
        assert_eq!(scene.bed.tamper(&scene.filled(&ahead)).await, 1);
        // Whether or not there is one to be written.
        for _ in 0..2 {
            let other = scene.other.tenant.id();
            match scene.bed.controllers.checkpoint_all().await {
                Err(VaultError::CheckpointAhead {
                    tenant,
                    checkpoint_no,
                    ..
                }) => assert_eq!((tenant, checkpoint_no, is_believed), (other, 1, false)),
                written => assert!(written.unwrap().anchor.is_some() && is_believed, "{time}"),
            }
            let written = if is_believed { before + 1 } else { before };
            assert_eq!(scene.bed.count(checkpoints).await, written);
        }
    }
    let drop_head = scene.filled("delete from audit_chain where not TENANT");
    scene.bed.tamper(&drop_head).await;
    let ahead = "update checkpoint set checkpoint_time = 'infinity' where not TENANT";
    scene.bed.tamper(&scene.filled(ahead)).await;
    let nothing_moved = scene.bed.controllers.checkpoint_all().await;
    assert!(matches!(
        nothing_moved,
        Err(VaultError::CheckpointAhead { .. })
    ));
    scene.replica.stop().await;
}

#[tokio::test]
async fn no_checkpoint_is_written_by_a_clock_of_the_database_that_runs_ahead() {
    let mut scene = Scene::new("audit_clocks_apart").await;
    scene.holders[0].serve(1).await;
    for (minutes, is_written) in [(-90, false), (-30, true)] {
        let off = SignedDuration::from_mins(minutes);
        let controllers = scene.bed.controllers_off_by(off).await;
        let written = controllers.checkpoint_all().await;
        match written {
            Err(VaultError::ClocksApart { .. }) => assert!(!is_written),
            other => assert!(other.is_ok() && is_written),
        }
        let checkpoints = scene.bed.count("select count(*) from checkpoint").await;
        assert_eq!(checkpoints, if is_written { 4 } else { 3 });
    }
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_tenant_that_somebody_holds_does_not_keep_the_others_from_their_checkpoints() {
    let scene = Scene::new("audit_held").await;
    let checkpoints = "select count(*) from checkpoint";
    let mut tenants = [scene.team.tenant.id(), scene.other.tenant.id()];
    tenants.sort_by_key(|tenant| tenant.as_uuid());
    // One moved since; the other is to be bound again as well.
    let unbound = scene.filled("delete from checkpoint_head where not TENANT");
    assert_eq!(scene.bed.tamper(&unbound).await, 1);
    let mut gate = scene.bed.sql.begin().await.unwrap();
    sqlx::query("select from tenant where tenant_id = $1 for update")
        .bind(tenants[0].as_uuid())
        .execute(&mut *gate)
        .await
        .unwrap();
    let controllers = &scene.bed.controllers;
    let before = scene.bed.count(checkpoints).await;
    let written = controllers.checkpoint_all().await.unwrap();
    assert_eq!(written.passed_over, 1);
    assert_eq!(scene.bed.count(checkpoints).await, before + 1);
    gate.rollback().await.unwrap();
    let written = controllers.checkpoint_all().await.unwrap();
    assert_eq!(written.passed_over, 0);
    assert_eq!(scene.bed.count(checkpoints).await, before + 2);
    scene.replica.stop().await;
}

#[tokio::test]
async fn without_its_audit_key_nothing_is_recorded_or_verified() {
    let mut scene = Scene::new("audit_key").await;
    let change = "update tenant_secret
                  set wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)
                  where TENANT and purpose = 'audit'";
    assert_eq!(scene.bed.tamper(&scene.filled(change)).await, 1);
    // Keys are kept by those who had them.
    let controllers = scene.bed.controllers_elsewhere().await;
    let replica = scene.bed.replica().await;
    let [holder, _] = &mut scene.holders;
    holder.broker = holder.broker.moved(&replica, &scene.bed.authority).await;
    let record = crate::support::broker::served(&holder.granted, 1);
    let refused = holder.broker.report(vec![record], vec![]).await;
    assert_eq!(refused.err().unwrap().code(), Code::Internal);
    let recorded = "select count(*) from integrity_failure where table_name = 'tenant_secret'";
    assert_eq!(scene.bed.count(recorded).await, 1);
    let records = "select count(*) from access_record where TENANT";
    assert_eq!(scene.bed.count(&scene.filled(records)).await, 12);

    let tenant = scene.team.tenant.id();
    let verified = controllers.vault().verify_audit(tenant, None).await;
    assert_eq!(verified.err().unwrap().category(), Category::Integrity);
    // It does not keep the other tenant from its checkpoint.
    scene.bed.tamper("delete from checkpoint_head").await;
    scene.bed.tamper("delete from checkpoint").await;
    let metric = "bursar_vault_integrity_failures_total";
    let counted = replica.metric(metric);
    let checkpoints = controllers.checkpoint_all().await.unwrap();
    assert_eq!(checkpoints.passed_over, 1);
    assert!(replica.metric(metric) > counted);
    let there = "select count(*) from checkpoint where not TENANT";
    assert_eq!(scene.bed.count(&scene.filled(there)).await, 1);
    assert_eq!(scene.bed.count("select count(*) from checkpoint").await, 1);
    replica.stop().await;
    scene.replica.stop().await;
}
