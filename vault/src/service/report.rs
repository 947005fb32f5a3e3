//! Report: what was served, in numbered batches, each recorded exactly once.

use std::collections::HashMap;

use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::{ReportRequest, ReportResponse};
use sqlx::PgConnection;
use uuid::Uuid;

use super::VaultService;
use super::account::{Balance, BalanceState, Effects, Report, Untrue};
use super::error::CallError;
use super::incarnation::{Claimed, Running};
use super::metrics::{Fenced, Taken, Told};
use super::why;
use crate::audit::{self, Head, Outcome, Record};
use crate::db_time::DbTime;
use crate::error::VaultError;
use crate::rows::IncarnationRow;

/// How many reports all brokers together send in a second, as far as the bounds
/// below allow.
const REPORTS_PER_SECOND: u64 = 400;
/// Bounds on how soon a broker reports again, in milliseconds. One that serves 10
/// accesses a second makes 5 calls for 100 of them with two seconds, and 10 with one.
const SOONEST_REPORT_MS: u64 = 2_000;
const LATEST_REPORT_MS: u64 = 30_000;

/// What a batch is to the ones before it.
pub(crate) enum Place {
    Next,
    /// Taken before: acknowledged again, without effect.
    Repeated,
    /// The number of the last one, and another content.
    Changed,
}

/// How a batch ended.
enum Verdict {
    Recorded,
    Repeated,
    Untrue(Untrue),
}

impl Fenced {
    const fn of(why: Untrue) -> Self {
        match why {
            Untrue::Changed => Self::ReportChanged,
            _ => Self::ReportUntrue,
        }
    }
}

impl VaultService {
    pub(crate) async fn report(
        &self,
        claimed: Claimed,
        request: ReportRequest,
    ) -> Result<ReportResponse, CallError> {
        match self.take(&claimed, &request).await {
            Ok(Verdict::Recorded) => self.metrics().report(Taken::Recorded),
            Ok(Verdict::Repeated) => self.metrics().report(Taken::Repeated),
            Ok(Verdict::Untrue(why)) => {
                self.metrics().report(Taken::Refused);
                self.metrics().fence(Fenced::of(why));
                tracing::error!(
                    tenant = %claimed.id.tenant,
                    incarnation = %claimed.id.incarnation,
                    %why,
                    "a broker's report cannot be true: its incarnation is fenced",
                );
                self.watchers().end([claimed.id]);
                return Err(CallError::Unauthenticated);
            }
            Err(error) => {
                self.metrics().report(Taken::Refused);
                return Err(error);
            }
        }
        Ok(ReportResponse {
            next_report_ms: next_report_ms(self.attached()),
        })
    }

    async fn take(&self, claimed: &Claimed, request: &ReportRequest) -> Result<Verdict, CallError> {
        let (ids, denials) = (&request.closed_allowance_ids, &request.denials);
        if request.digest != report_digest(&request.records, ids, denials) {
            return Err(CallError::Malformed("digest is not the one of the content"));
        }
        let mut denied = self.explain(claimed, request).await?;
        let report = Report::read(request);
        let mut transaction = self.vault().begin().await?;
        let opened = self.open_report(&mut transaction, claimed, &report).await?;
        let (mut written, mut denials_recorded) = (0, 0);
        let verdict = match (place(&opened.running, request)?, report) {
            (Place::Repeated, _) => Verdict::Repeated,
            (Place::Changed, _) => Verdict::Untrue(Untrue::Changed),
            (Place::Next, Err(untrue)) => Verdict::Untrue(untrue),
            (Place::Next, Ok(report)) => match report.apply(&balances(&opened.held)) {
                Ok(effects) => {
                    let seq = request.seq.cast_signed();
                    let running = &opened.running;
                    let room = why::take_room(&mut transaction, claimed, running, denied.len());
                    denied.truncate(room.await?);
                    denials_recorded = denied.len();
                    let mut records = records(&opened.held, seq, &report, &effects);
                    records.extend(denied.into_iter().map(|record| Record {
                        report_seq: Some(seq),
                        ..record
                    }));
                    let (head, now) = (opened.head, opened.read_at);
                    let (keys, chain) = (claimed.tenant.keys(), claimed.id.incarnation);
                    let chained = audit::chained(&mut transaction, keys, chain, head, now, records);
                    let records = chained.await?;
                    store(&mut transaction, claimed, request, &effects, &records).await?;
                    written = records.len() as u64;
                    Verdict::Recorded
                }
                Err(untrue) => Verdict::Untrue(untrue),
            },
        };
        if let Verdict::Untrue(_) = verdict {
            fence(&mut transaction, claimed).await?;
        }
        transaction.commit().await?;
        if let Verdict::Recorded = verdict {
            self.metrics().told(Told::Recorded, denials_recorded);
            let dropped = denials.len() - denials_recorded;
            self.metrics().told(Told::Dropped, dropped);
        }
        self.metrics().records.inc_by(written);
        Ok(verdict)
    }

    /// Locks the incarnation, and with it its allowances and its chain.
    async fn open_report(
        &self,
        connection: &mut PgConnection,
        claimed: &Claimed,
        report: &Result<Report, Untrue>,
    ) -> Result<Opened, CallError> {
        let ids: Vec<Uuid> = match report {
            Ok(report) => report.allowances().into_iter().collect(),
            Err(_) => Vec::new(),
        };
        let (tenant, incarnation) = (claimed.id.tenant.as_uuid(), claimed.id.incarnation);
        let row = sqlx::query!(
            r#"select pod_uid as "pod_uid!", pod_name as "pod_name!",
                      service_account_name as "service_account_name!",
                      service_account_uid as "service_account_uid!",
                      review_due_time as "review_due_time!: DbTime",
                      key_version as "key_version!", mac as "mac!", fenced as "fenced!",
                      last_report_seq as "last_report_seq!", last_report_digest,
                      last_request_no as "last_request_no!",
                      held as "held!: Vec<HeldRow>", head_no,
                      head_time as "head_time: DbTime", head_mac,
                      began as "began!: DbTime", read_at as "read_at!: DbTime"
               from open_report($1, $2, $3)"#,
            tenant,
            incarnation,
            &ids,
        )
        .fetch_optional(connection)
        .await?
        .ok_or(CallError::Unauthenticated)?;
        let authenticated = IncarnationRow {
            tenant_id: tenant,
            incarnation_id: incarnation,
            pod_uid: row.pod_uid,
            pod_name: row.pod_name,
            service_account_name: row.service_account_name,
            service_account_uid: row.service_account_uid,
            review_due_time: row.review_due_time,
            key_version: row.key_version,
            mac: row.mac,
        };
        let running = Running {
            incarnation: claimed.prove(authenticated, row.fenced)?,
            last_report_seq: row.last_report_seq,
            last_report_digest: row.last_report_digest,
            last_request_no: row.last_request_no,
            now: row.began,
        };
        let head = match (row.head_no, row.head_time, row.head_mac) {
            (Some(record_no), Some(recorded_time), Some(mac)) => Head {
                record_no,
                recorded_time,
                mac: audit::head_mac(claimed.tenant.keys(), incarnation, mac)
                    .map_err(VaultError::from)?,
            },
            _ => Head::none(row.read_at),
        };
        let held = row.held.into_iter().map(Held::read);
        Ok(Opened {
            running,
            held: held.collect(),
            head,
            read_at: row.read_at,
        })
    }
}

/// What a report begins with, locked until its transaction ends.
struct Opened {
    running: Running,
    /// Those of its allowances that the report speaks of.
    held: HashMap<Uuid, Held>,
    /// The end of its chain.
    head: Head,
    /// The database's clock, behind the lock.
    read_at: DbTime,
}

/// When to report again, with so many brokers attached.
fn next_report_ms(brokers: u64) -> u64 {
    let interval = brokers.saturating_mul(1_000) / REPORTS_PER_SECOND;
    interval.clamp(SOONEST_REPORT_MS, LATEST_REPORT_MS)
}

/// Where a report comes in the order of its incarnation's.
///
/// # Errors
/// When it cannot come yet, or its number is none.
pub(crate) fn place(running: &Running, request: &ReportRequest) -> Result<Place, CallError> {
    let last = running.last_report_seq;
    let seq = i64::try_from(request.seq).ok().filter(|seq| *seq > 0);
    let seq = seq.ok_or(CallError::Malformed("seq begins at 1"))?;
    if Some(seq) == last.checked_add(1) {
        return Ok(Place::Next);
    }
    if seq > last {
        return Err(CallError::OutOfOrder {
            what: "report",
            given: request.seq,
            last: last.unsigned_abs(),
        });
    }
    let changed = seq == last && running.last_report_digest.as_deref() != Some(&request.digest[..]);
    Ok(if changed {
        Place::Changed
    } else {
        Place::Repeated
    })
}

/// An allowance that is spoken of.
struct Held {
    balance: Balance,
    user: Uuid,
    token: Uuid,
    version: i32,
    service_account_name: String,
    granted_time: DbTime,
    expires_time: DbTime,
}

/// The same as `open_report` gives it.
#[derive(Debug, sqlx::Type)]
#[sqlx(type_name = "held_allowance")]
struct HeldRow {
    allowance_id: Uuid,
    granted: i32,
    used: i32,
    returned: i32,
    state: String,
    user_uid: Uuid,
    token_id: Uuid,
    version: i32,
    service_account_name: String,
    granted_time: DbTime,
    expires_time: DbTime,
}

impl Held {
    /// With its id.
    fn read(row: HeldRow) -> (Uuid, Self) {
        let balance = Balance {
            granted: row.granted,
            used: row.used,
            returned: row.returned,
            state: BalanceState::parse(&row.state),
        };
        let held = Self {
            balance,
            user: row.user_uid,
            token: row.token_id,
            version: row.version,
            service_account_name: row.service_account_name,
            granted_time: row.granted_time,
            expires_time: row.expires_time,
        };
        (row.allowance_id, held)
    }

    /// A record of accesses from the allowance `id`.
    fn record(&self, outcome: Outcome, seq: i64, id: Uuid, count: i32) -> Record {
        Record {
            report_seq: Some(seq),
            allowance_id: Some(id),
            user_uid: Some(self.user),
            token_id: Some(self.token),
            version: Some(self.version),
            service_account_name: self.service_account_name.clone(),
            count,
            ..Record::new(outcome, self.granted_time, self.expires_time)
        }
    }
}

fn balances(held: &HashMap<Uuid, Held>) -> HashMap<Uuid, Balance> {
    let held = held.iter();
    held.map(|(id, held)| (*id, held.balance.clone())).collect()
}

/// What is served, and behind it corrections of what lapsed.
fn records(
    held: &HashMap<Uuid, Held>,
    seq: i64,
    report: &Report,
    effects: &Effects,
) -> Vec<Record> {
    let served = report.served.iter().filter_map(|served| {
        let held = held.get(&served.allowance)?;
        Some(Record {
            app_name: served.app_name.to_string(),
            purpose: served.purpose.to_string(),
            first_time: served.first_time.into(),
            last_time: served.last_time.into(),
            ..held.record(Outcome::Served, seq, served.allowance, served.count)
        })
    });
    let accounted = effects.accounted.iter().filter_map(|(id, count)| {
        let held = held.get(id)?;
        Some(held.record(Outcome::Accounted, seq, *id, *count))
    });
    served.chain(accounted).collect()
}

/// Writes all of a batch.
async fn store(
    connection: &mut PgConnection,
    claimed: &Claimed,
    request: &ReportRequest,
    effects: &Effects,
    records: &[Record],
) -> Result<(), sqlx::Error> {
    let mut ids = Vec::new();
    let (mut used, mut returned, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for (id, balance) in &effects.balances {
        ids.push(*id);
        used.push(balance.used);
        returned.push(balance.returned);
        states.push(balance.state.as_str().to_owned());
    }
    let (refunded, units): (Vec<Uuid>, Vec<i32>) = effects.refunds.iter().unzip();
    sqlx::query!(
        "select store_report($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        claimed.id.tenant.as_uuid(),
        claimed.id.incarnation,
        request.seq.cast_signed(),
        request.digest,
        &ids,
        &used,
        &returned,
        &states,
        &refunded,
        &units,
        records as &[Record],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Nothing is taken from this incarnation any more; what it holds will lapse.
async fn fence(connection: &mut PgConnection, claimed: &Claimed) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update incarnation set fenced_time = now()
         where tenant_id = $1 and incarnation_id = $2",
        claimed.id.tenant.as_uuid(),
        claimed.id.incarnation,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::next_report_ms;

    #[test]
    fn the_more_brokers_there_are_the_less_often_each_reports() {
        assert_eq!(next_report_ms(0), 2_000);
        assert_eq!(next_report_ms(800), 2_000);
        assert_eq!(next_report_ms(1_000), 2_500);
        assert_eq!(next_report_ms(10_000), 25_000);
        assert_eq!(next_report_ms(u64::MAX), 30_000);
    }
}
