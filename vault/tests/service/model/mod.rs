//! The allowance, driven through a network that loses, repeats, delays and reorders
//! what it carries, while limits change, brokers are killed and leases end. The
//! calls are the real ones, on a real Postgres; the brokers and the network are a
//! model, so that every schedule follows from its seed alone.
//!
//! `BURSAR_MODEL_SCHEDULES` says how many are tried, `BURSAR_MODEL_SEED` which one is
//! the first: a failure names its seed.

mod broker;
mod dice;
mod invariants;
mod world;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use bursar_vault::service::Settings;

use self::world::World;
use crate::support::replica::Replica;
use crate::support::{Bed, DEADLOCKS};

/// Schedules that are tried unless told otherwise.
const SCHEDULES: u64 = 120;
/// Steps of a schedule between two quiet points.
const STEPS: usize = 25;
/// Quiet points of a schedule.
const QUIET_POINTS: usize = 2;
/// Schedules that are under way at the same time, each in a namespace of its own.
const AT_ONCE: u64 = 8;

async fn schedule(bed: &Bed, replica: &Replica, seed: u64) {
    let mut world = World::new(bed, replica, seed).await;
    for _ in 0..QUIET_POINTS {
        for _ in 0..STEPS {
            world.step().await;
        }
        world.come_to_rest().await;
        world.check(seed).await;
    }
    // I4: brokers that end in good order leave nothing open.
    world.end_all();
    world.come_to_rest().await;
    world.check(seed).await;
    let living: Vec<String> = world
        .brokers
        .iter()
        .map(|broker| format!("'{}'", broker.broker.incarnation_uuid()))
        .collect();
    let open = format!(
        "select count(*) from allowance where state = 'Open' and incarnation_id in ({})",
        living.join(", ")
    );
    assert_eq!(bed.count(&open).await, 0, "seed {seed}: left open");
}

/// To the one who runs the test, who sees no output of what passes.
fn tell(text: &str) {
    println!("{text}");
    if let Some(path) = std::env::var_os("BURSAR_TEST_SUMMARY") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{text}"))
            .unwrap_or_else(|error| panic!("BURSAR_TEST_SUMMARY, {path:?}: {error}"));
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_access_is_recorded_once_and_no_quota_is_exceeded_whatever_the_network_does() {
    // Longer than a schedule, and no longer than the sweep takes to begin.
    let bed = Bed::with_lease("model", Duration::from_secs(5)).await;
    let quick = Settings {
        lapse_grace: Duration::ZERO,
        sweep_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    let first = number("BURSAR_MODEL_SEED").unwrap_or(1);
    let schedules = number("BURSAR_MODEL_SCHEDULES").unwrap_or(SCHEDULES);
    let tracks = (0..AT_ONCE).map(async |track| {
        for seed in (first..first + schedules)
            .skip(usize::try_from(track).unwrap())
            .step_by(usize::try_from(AT_ONCE).unwrap())
        {
            schedule(&bed, &replica, seed).await;
        }
    });
    futures::future::join_all(tracks).await;
    // I9.
    assert_eq!(bed.count(DEADLOCKS).await, 0);
    let records = bed.count("select count(*) from access_record").await;
    let lapsed = bed
        .count("select count(*) from allowance where state = 'Lapsed'")
        .await;
    assert!(
        records > 0 && lapsed > 0,
        "{records} records, {lapsed} lapsed"
    );
    tell(&format!(
        "model: seeds {first} to {}: {records} records, {lapsed} allowances lapsed",
        first + schedules - 1
    ));
    replica.stop().await;
}
