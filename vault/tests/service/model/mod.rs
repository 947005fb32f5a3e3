//! The allowance, driven through a network that loses, repeats, delays and reorders
//! what it carries, while limits change, brokers are killed and leases end. The
//! calls are the real ones, on a real Postgres; the brokers and the network are a
//! model, so that every schedule follows from its seed alone: nothing waits for a
//! time, leases and periods end when the schedule says so, and the sweep, which runs
//! beside it, finds something only then.
//!
//! `BURSAR_MODEL_SCHEDULES` says how many are tried, `BURSAR_MODEL_SEED` which one is
//! the first: a failure names its seed. `make model` tries thousands.

mod broker;
mod invariants;
mod world;

use std::time::Duration;

use bursar_testbed::tell;
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
/// Seeds whose schedules serve when a broker holds several allowances.
const WITH_CHOICES: [u64; 5] = [41, 57, 78, 93, 102];
/// Schedules that are under way at the same time, each in a namespace of its own.
const AT_ONCE: u64 = 8;

/// A bed on which no lease ends by itself, and a replica that sweeps all the time.
async fn bed(hint: &str) -> (Bed, Replica) {
    // The sweep begins a lease after the replica.
    let bed = Bed::with_lease(hint, Duration::from_secs(1)).await;
    for statement in [
        "create function last() returns trigger language plpgsql as $$
         begin new.expires_time := now() + interval '1 day'; return new; end $$",
        "create trigger last before insert on allowance for each row execute function last()",
    ] {
        bed.tamper(statement).await;
    }
    let quick = Settings {
        lapse_grace: Duration::ZERO,
        sweep_interval: Duration::from_millis(20),
        ..Settings::default()
    };
    let replica = bed.replica_with(quick).await;
    (bed, replica)
}

/// Goes through a schedule; what came of it, step by step.
async fn schedule(bed: &Bed, replica: &Replica, namespace: &str, seed: u64) -> Vec<String> {
    let mut world = World::new(bed, replica, namespace, seed).await;
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
    world.trace
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_access_is_recorded_once_and_no_quota_is_exceeded_whatever_the_network_does() {
    let (bed, replica) = bed("model").await;
    let first = number("BURSAR_MODEL_SEED").unwrap_or(1);
    let schedules = number("BURSAR_MODEL_SCHEDULES").unwrap_or(SCHEDULES);
    let tracks = (0..AT_ONCE).map(async |track| {
        for seed in (first..first + schedules)
            .skip(usize::try_from(track).unwrap())
            .step_by(usize::try_from(AT_ONCE).unwrap())
        {
            schedule(&bed, &replica, &format!("team-{seed}"), seed).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_goes_the_same_way_each_time() {
    let (bed, replica) = bed("model_again").await;
    let mut choices = 0;
    for seed in WITH_CHOICES {
        let [once, again] = ["once", "again"].map(|time| format!("{time}-{seed}"));
        let once = schedule(&bed, &replica, &once, seed);
        let again = schedule(&bed, &replica, &again, seed);
        let (once, again) = futures::future::join(once, again).await;
        assert_eq!(once, again, "seed {seed}");
        let served = once.iter().filter(|step| step.contains(" served of "));
        choices += served.filter(|step| !step.ends_with(" one of 1")).count();
    }
    assert!(choices >= 5, "{choices}: too few to go another way");
    replica.stop().await;
}
