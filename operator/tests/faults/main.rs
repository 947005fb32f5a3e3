//! The real processes under load, while they are killed, stopped and cut off at random:
//! what the workloads received equals what is on record and what is declared
//! unaccounted for, and no quota is exceeded.
//!
//! Brokers and vault replicas are the programs that are shipped; Postgres, with fsync on,
//! and the API server are this test's own. `BURSAR_FAULT_SEED` chooses the order of
//! the faults, `BURSAR_FAULT_ROUNDS` how many there are; both are printed.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod audit;
mod bed;
mod books;
mod books_test;
mod journal;
mod ledger;
mod limits;
mod link;
mod mischief;
mod pods;
mod workload;

use std::time::Duration;

use bursar_testbed::tell;

use bed::Bed;
use mischief::Mischief;

/// Faults unless told otherwise.
const ROUNDS: u64 = 40;
/// Longer than anything takes: a lease, as long again and the grace after it, and all
/// this while the vault has the database without a break.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);
/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Another one each time.
fn any_seed() -> u64 {
    u64::from(uuid::Uuid::new_v4().as_fields().0)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

// The processes end with the thread that starts them: all are started by this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_is_on_record_or_declared_whatever_is_killed() {
    let seed = number("BURSAR_FAULT_SEED").unwrap_or_else(any_seed);
    let rounds = number("BURSAR_FAULT_ROUNDS").unwrap_or(ROUNDS);
    println!("faults: seed {seed}, {rounds} rounds");
    let mut bed = Bed::start(seed).await;
    let load = workload::start(&bed);
    let mut mischief = Mischief::new(seed);
    for round in 1..=rounds {
        mischief.round(&mut bed, round).await;
    }
    // One broker sleeps until its allowances have lapsed, and accounts for them then.
    let late = mischief.end(&mut bed).await;
    bed.until_lapsed(late).await;
    bed.pods[late].resume();
    load.stop().await;
    bed.end_brokers().await;
    bed.until_settled().await;

    let journal = bed.journal.take();
    let mut problems = bed.problems(&journal).await;
    let verified = bed.verify_audit().await.unwrap_or_else(|problem| {
        problems.push(problem.clone());
        problem
    });
    let told = mischief.summary();
    let totals = bed.totals(&journal).await;
    tell(&format!(
        "faults: seed {seed}, {rounds} rounds: {told}; {totals}; {verified}"
    ));
    assert!(problems.is_empty(), "seed {seed}: {problems:#?}");
    assert!(journal.received() > 0, "nobody received anything");
    bed.end().await;
}
