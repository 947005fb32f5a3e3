//! Checkpoints that are changed or removed, and a database that is set back.

use bursar_vault::Wrong;
use jiff::SignedDuration;
use jiff::civil::Date;

use super::{Scene, another};

#[tokio::test]
async fn any_change_of_any_column_of_a_checkpoint_is_found() {
    let scene = Scene::new("audit_checkpoints").await;
    for (column, data_type) in scene.columns("checkpoint").await {
        let (wrong, change) = match column.as_str() {
            "tenant_id" => (Wrong::CheckpointRemoved, "gen_random_uuid()".to_owned()),
            "checkpoint_no" => (Wrong::CheckpointRemoved, "9".to_owned()),
            // They go together.
            "kind" => {
                let both = "'Boundary', through_day = '2026-01-01'";
                (Wrong::CheckpointChanged, both.to_owned())
            }
            "through_day" => continue,
            _ => (Wrong::CheckpointChanged, another(&column, &data_type)),
        };
        let change =
            format!("update checkpoint set {column} = {change} where TENANT and checkpoint_no = 1");
        scene.finds_checkpoint(1, wrong, &[&change]).await;
    }
    for (column, data_type) in scene.columns("checkpoint_head").await {
        let change = match column.as_str() {
            "checkpoint_no" => "9".to_owned(),
            _ => another(&column, &data_type),
        };
        let change = format!(
            "update checkpoint_head set {column} = {change} where CHAIN and checkpoint_no = 1"
        );
        let wrong = Wrong::CheckpointHeadsChanged;
        scene.finds_checkpoint(1, wrong, &[&change]).await;
    }
    let added = "insert into checkpoint_head
                 select tenant_id, checkpoint_no, gen_random_uuid(), 1, mac
                 from checkpoint_head where CHAIN and checkpoint_no = 2";
    let wrong = Wrong::CheckpointHeadsChanged;
    scene.finds_checkpoint(2, wrong, &[added]).await;
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_checkpoint_that_is_removed_is_missed() {
    let scene = Scene::new("audit_no_checkpoint").await;
    let wrong = Wrong::CheckpointRemoved;
    let heads =
        |number| format!("delete from checkpoint_head where TENANT and checkpoint_no = {number}");
    let row = |number| format!("delete from checkpoint where TENANT and checkpoint_no = {number}");
    scene
        .finds_checkpoint(1, wrong, &[&heads(1), &row(1)])
        .await;
    scene.finds_checkpoint(1, wrong, &[&row(1)]).await;
    scene.finds_checkpoint(2, wrong, &[&row(2)]).await;
    let one = "delete from checkpoint_head where CHAIN and checkpoint_no = 2";
    let changed = Wrong::CheckpointHeadsChanged;
    scene.finds_checkpoint(2, changed, &[one]).await;

    // The newest, and all of them, with the heads: only what is outside tells.
    let bad = scene.after(&[&heads(2), &row(2)]).await.unwrap();
    assert_eq!((bad.checkpoint_no, bad.wrong), (None, Wrong::NotAnchored));
    let all = "delete from checkpoint where TENANT";
    let their_heads = "delete from checkpoint_head where TENANT";
    let bad = scene.after(&[their_heads, all]).await.unwrap();
    assert_eq!(bad.wrong, Wrong::NotAnchored);
    assert_eq!(bad.time, Some(scene.anchor.checkpoint_time));
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_checkpoint_is_without_heads_only_behind_a_boundary_of_its_day_and_then_without_any() {
    let mut scene = Scene::new("audit_no_heads").await;
    let changed = Wrong::CheckpointHeadsChanged;
    let heads =
        |number| format!("delete from checkpoint_head where TENANT and checkpoint_no = {number}");
    let tenant = scene.team.tenant.id();
    let today = scene.bed.today().await;
    let bound = async |scene: &Scene, day: Date| {
        let controllers = &scene.bed.controllers;
        let bound = controllers.checkpoint_boundary(tenant, day).await.unwrap();
        scene.save("saved").await;
        bound
    };
    assert_eq!(bound(&scene, today.yesterday().unwrap()).await, 3);
    scene.finds_checkpoint(1, changed, &[&heads(1)]).await;
    for number in [4, 5] {
        assert_eq!(bound(&scene, today).await, number);
    }
    scene.holders[0].serve(1).await;
    scene.bed.controllers.checkpoint_all().await.unwrap();
    scene.save("saved").await;
    assert_eq!(scene.after(&[&heads(1)]).await, None);
    assert_eq!(scene.after(&[&heads(1), &heads(2)]).await, None);
    // Those of boundaries, and of what came behind them.
    for number in [4, 5, 6] {
        let heads = heads(number);
        scene.finds_checkpoint(number, changed, &[&heads]).await;
    }
    let some = "delete from checkpoint_head where CHAIN and checkpoint_no = 1";
    scene.finds_checkpoint(1, changed, &[some]).await;
    let other = "update checkpoint_head set record_no = 1 where CHAIN and checkpoint_no = 1";
    scene.finds_checkpoint(1, changed, &[other]).await;
    // The end of a chain, so that it seems to be bound.
    let seems_bound = "insert into checkpoint_head
                       select tenant_id, 1, chain_id, record_no, mac from audit_chain where CHAIN";
    scene
        .finds_checkpoint(1, changed, &[&heads(1), seems_bound])
        .await;
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_checkpoint_under_a_clock_that_was_set_back_does_not_seem_to_be_behind_a_boundary() {
    let mut scene = Scene::new("audit_clock_back").await;
    let tenant = scene.team.tenant.id();
    let today = scene.bed.today().await;
    // Checkpoint 3 is of in two days, and the next one of now.
    let other = "update checkpoint set checkpoint_time = TIME where not TENANT";
    let own = "update checkpoint set checkpoint_time = TIME where TENANT and checkpoint_no = 3";
    let at = |statement: &str, time| scene.filled(&statement.replace("TIME", time));
    let statements = [
        at(other, "now() + interval '2 days'"),
        at(other, "now() - interval '1 hour'"),
        "create table kept as select checkpoint_time from checkpoint where checkpoint_no = 3"
            .to_owned(),
        at(own, "now() - interval '1 hour'"),
        at(own, "(select checkpoint_time from kept)"),
    ];
    // The machine's clock is as far ahead.
    let days = SignedDuration::from_hours(2 * 24);
    let controllers = scene.bed.controllers_off_by(days).await;
    scene.bed.tamper(&statements[0]).await;
    controllers.checkpoint_all().await.unwrap();
    for statement in &statements[1..4] {
        scene.bed.tamper(statement).await;
    }
    scene.holders[0].serve(1).await;
    controllers.checkpoint_all().await.unwrap();
    let bound = controllers.checkpoint_boundary(tenant, today).await;
    assert_eq!(bound.unwrap(), 5);
    scene.bed.tamper(&statements[4]).await;
    let bad = async || scene.verify_of(&scene.team, None).await.first_bad;
    assert_eq!(bad().await, None);
    let heads = scene.filled("delete from checkpoint_head where TENANT and checkpoint_no = 4");
    assert_eq!(scene.bed.tamper(&heads).await, 1);
    let bad = bad().await.unwrap();
    let place = (bad.checkpoint_no, bad.wrong);
    assert_eq!(place, (Some(4), Wrong::CheckpointHeadsChanged), "{bad}");
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_database_that_was_set_back_is_found_by_what_is_kept_outside() {
    let mut scene = Scene::new("audit_set_back").await;
    let later = scene
        .bed
        .controllers
        .checkpoint_all()
        .await
        .unwrap()
        .anchor
        .unwrap();
    let all = scene.verify_of(&scene.team, Some(&later)).await;
    assert_eq!((all.records, all.chains, all.checkpoints), (12, 2, 3));
    assert_eq!(all.first_bad, None);
    // What was kept earlier still holds.
    assert_eq!(scene.first_bad().await, None);

    scene.restore("saved").await;
    let bad = scene.verify_of(&scene.team, Some(&later)).await.first_bad;
    assert_eq!(bad.unwrap().wrong, Wrong::NotAnchored);
    // It goes on from there, and is found all the same.
    scene.holders[0].serve(1).await;
    scene.bed.controllers.checkpoint_all().await.unwrap();
    let bad = scene.verify_of(&scene.team, Some(&later)).await.first_bad;
    assert_eq!(bad.unwrap().wrong, Wrong::NotAnchored);
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_chain_that_was_cut_and_goes_on_is_found() {
    let mut scene = Scene::new("audit_regrown").await;
    for statement in [
        "delete from access_record where CHAIN and record_no > 2",
        "update audit_chain h set record_no = r.record_no, mac = r.mac,
                recorded_time = r.recorded_time
         from access_record r
         where h.CHAIN and r.chain_id = h.chain_id and r.record_no = 2",
    ] {
        scene.bed.tamper(&scene.filled(statement)).await;
    }
    scene.holders[0].serve(4).await;
    scene.bed.controllers.checkpoint_all().await.unwrap();
    let bad = scene.first_bad().await.unwrap();
    let place = (bad.chain_id, bad.record_no, bad.wrong);
    let wrong = Wrong::RecordReplaced { checkpoint: 1 };
    assert_eq!(place, (Some(scene.chain()), Some(4), wrong));
    scene.replica.stop().await;
}
