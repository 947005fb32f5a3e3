//! Counters that workloads keep themselves: exact, and counted once for each key.

mod callers;
mod change;
mod counting;
mod idempotency;
mod rows;

use bursar_vault::rows::Subject;
use bursar_vault::{QuotaId, QuotaSpec};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::{Denied, Quotas};

use crate::support::broker::Broker;
use crate::support::replica::Replica;
use crate::support::{Bed, Team, quota};

const UPLOADS: (&str, &str) = ("ana", "filesUploaded");

/// A quota on files uploaded, for all time and enforced.
fn uploads(name: &str, subject: Subject, limit: i64) -> QuotaSpec {
    QuotaSpec {
        counter: UPLOADS.1.parse().unwrap(),
        ..quota(name, subject, limit)
    }
}

fn code(answer: Result<Quotas, Denied>) -> Code {
    answer.expect_err("counted").code()
}

/// What is used of each quota after an answer.
fn used(answer: Result<Quotas, Denied>) -> Vec<u64> {
    let quotas = answer.expect("denied").quotas;
    quotas.iter().map(|quota| quota.used).collect()
}

/// Applies all quotas of a namespace.
async fn apply(bed: &Bed, team: &Team, quotas: &[&QuotaSpec]) {
    let ids: Vec<QuotaId> = quotas.iter().map(|quota| quota.id).collect();
    for quota in quotas {
        bed.apply_quota_of(team, quota, &ids).await;
    }
}

/// `ana` with one quota of so many files, and a broker.
async fn scene(bed: &Bed, limit: i64) -> (Team, QuotaSpec, Replica, Broker) {
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let limit = uploads("uploads", Subject::User(ana.uid), limit);
    bed.apply_quota(&team, &limit).await;
    let broker = bed.broker(&replica, &team, "app").await;
    (team, limit, replica, broker)
}
