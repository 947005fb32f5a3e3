//! Records and chains that are changed, removed or moved.

use bursar_vault::Wrong;

use super::{Scene, another};

#[tokio::test]
async fn any_change_of_any_column_of_a_record_is_found() {
    let scene = Scene::new("audit_columns").await;
    for (column, data_type) in scene.columns("access_record").await {
        let wrong = match column.as_str() {
            // It is gone from here.
            "tenant_id" | "chain_id" | "record_no" => Wrong::RecordRemoved { next: 4 },
            _ => Wrong::RecordChanged,
        };
        let change = format!(
            "update access_record set {column} = {} where CHAIN and record_no = 3",
            another(&column, &data_type)
        );
        scene.finds(3, wrong, &[&change]).await;
    }
    scene.replica.stop().await;
}

#[tokio::test]
async fn what_is_removed_from_a_chain_is_found_wherever_it_was() {
    let scene = Scene::new("audit_removed").await;
    let first = "delete from access_record where CHAIN and record_no = 1";
    scene
        .finds(1, Wrong::RecordRemoved { next: 2 }, &[first])
        .await;
    let middle = "delete from access_record where CHAIN and record_no in (3, 4)";
    scene
        .finds(3, Wrong::RecordRemoved { next: 5 }, &[middle])
        .await;
    let last = "delete from access_record where CHAIN and record_no = 6";
    scene.finds(6, Wrong::RecordsCut { head: 6 }, &[last]).await;
    let all = "delete from access_record where CHAIN";
    scene.finds(1, Wrong::RecordsCut { head: 6 }, &[all]).await;

    // With the head set back: what was behind it before a checkpoint is missed.
    let tail = "delete from access_record where CHAIN and record_no > 2";
    let back = "update audit_chain h set record_no = r.record_no, mac = r.mac,
                       recorded_time = r.recorded_time
                from access_record r
                where h.CHAIN and r.chain_id = h.chain_id and r.record_no = 2";
    let cut = |through| Wrong::RecordsCutBeforeCheckpoint {
        checkpoint: through - 3,
        through,
    };
    scene.finds(3, cut(4), &[tail, back]).await;
    let head = "delete from audit_chain where CHAIN";
    scene.finds(1, cut(4), &[all, head]).await;
    scene.finds(6, Wrong::HeadRemoved, &[head]).await;

    // And what retention did not drop is missed, whatever the head says.
    let boundary = "update audit_chain h set boundary_no = 2, boundary_mac = r.mac
                    from access_record r
                    where h.CHAIN and r.chain_id = h.chain_id and r.record_no = 2";
    let dropped = "delete from access_record where CHAIN and record_no <= 2";
    let invented = Wrong::BoundaryInvented;
    scene.finds(2, invented, &[boundary, dropped]).await;

    // The limit: one record that no checkpoint covers yet.
    let tail = tail.replace('2', "5");
    let back = back.replace('2', "5");
    assert_eq!(scene.after(&[&tail, &back]).await, None);
    scene.replica.stop().await;
}

#[tokio::test]
async fn the_head_of_a_chain_says_what_its_last_record_says() {
    let scene = Scene::new("audit_heads").await;
    for (column, data_type) in scene.columns("audit_chain").await {
        let (record_no, wrong) = match column.as_str() {
            "tenant_id" | "chain_id" => (6, Wrong::HeadRemoved),
            "record_no" => (7, Wrong::RecordsCut { head: 7 }),
            // Null here; the two of them are changed above.
            "boundary_no" | "boundary_mac" => continue,
            _ => (6, Wrong::HeadChanged),
        };
        let change = format!(
            "update audit_chain set {column} = {} where CHAIN",
            another(&column, &data_type)
        );
        scene.finds(record_no, wrong, &[&change]).await;
    }
    let back = "update audit_chain set record_no = 5 where CHAIN";
    scene.finds(6, Wrong::HeadChanged, &[back]).await;
    scene.replica.stop().await;
}

#[tokio::test]
async fn records_that_change_places_are_found() {
    let scene = Scene::new("audit_moved").await;
    let swap = "update access_record set record_no = 5 - record_no
                where CHAIN and record_no in (2, 3)";
    scene.finds(2, Wrong::RecordChanged, &[swap]).await;
    let contents = "update access_record r
                    set count = o.count + 1, report_seq = o.report_seq, first_time = o.first_time
                    from access_record o
                    where r.CHAIN and o.chain_id = r.chain_id and r.record_no in (2, 3)
                      and o.record_no = 5 - r.record_no";
    scene.finds(2, Wrong::RecordChanged, &[contents]).await;
    let copy = "insert into access_record
                select (jsonb_populate_record(r, '{\"recorded_time\": \"2099-01-01\"}')).*
                from access_record r where CHAIN and record_no = 3";
    let day = "create table later partition of access_record
               for values from ('2099-01-01') to ('2099-01-02')";
    scene.bed.tamper(day).await;
    scene.finds(3, Wrong::RecordOutOfOrder, &[copy]).await;

    // Behind the end of another chain of the same tenant, both heads moved along.
    let head = "update audit_chain h set record_no = r.record_no, mac = r.mac,
                       recorded_time = r.recorded_time
                from access_record r
                where r.chain_id = h.chain_id and r.record_no = (
                    select max(record_no) from access_record where chain_id = h.chain_id)";
    let beside = "update access_record set chain_id = BESIDE, record_no = 7
                  where CHAIN and record_no = 6";
    let bad = scene.after(&[beside, head]).await.unwrap();
    let place = (bad.chain_id, bad.record_no, bad.wrong);
    let chain = scene.holders[1].chain();
    assert_eq!(place, (Some(chain), Some(7), Wrong::RecordChanged));

    // To another tenant.
    let elsewhere = format!(
        "update access_record set tenant_id = '{}', chain_id = '{}', record_no = 2
         where CHAIN and record_no = 6",
        scene.other.tenant.id(),
        scene.other_chain,
    );
    for statement in [&elsewhere, head] {
        scene.bed.tamper(&scene.filled(statement)).await;
    }
    let bad = scene.verify_of(&scene.other, None).await.first_bad.unwrap();
    let place = (bad.chain_id, bad.record_no, bad.wrong);
    assert_eq!(
        place,
        (Some(scene.other_chain), Some(2), Wrong::RecordChanged)
    );
    let text = bad.to_string();
    assert!(text.starts_with(&format!("chain {}, record 2 (20", scene.other_chain)));
    assert!(text.contains("a column of it was changed"), "{text}");
    scene.replica.stop().await;
}
