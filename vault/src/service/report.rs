//! Report: what was served, in numbered batches, each recorded exactly once.

use std::collections::{HashMap, HashSet};

use bursar_wire::digest::report_digest;
use bursar_wire::v1alpha1::{ReportRequest, ReportResponse};
use sqlx::PgConnection;
use uuid::Uuid;

use super::VaultService;
use super::account::{Balance, BalanceState, Effects, Report, Untrue};
use super::error::CallError;
use super::incarnation::{Claimed, Running};
use super::metrics::{Fenced, Taken};
use crate::audit::{self, Outcome, Record};
use crate::db_time::DbTime;

/// How soon a broker reports again, in milliseconds.
const NEXT_REPORT_MS: u64 = 1_000;

/// What a batch is to the ones before it.
enum Place {
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
        let taken = self.take(&claimed, &request).await;
        match self.on_record(taken).await {
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
            next_report_ms: NEXT_REPORT_MS,
        })
    }

    async fn take(&self, claimed: &Claimed, request: &ReportRequest) -> Result<Verdict, CallError> {
        let digest = report_digest(&request.records, &request.closed_allowance_ids);
        if request.digest != digest {
            return Err(CallError::Malformed("digest is not the one of the content"));
        }
        let mut transaction = self.vault().pool().begin().await?;
        let running = self.lock(&mut transaction, claimed).await?;
        let verdict = match place(&running, request)? {
            Place::Repeated => Verdict::Repeated,
            Place::Changed => Verdict::Untrue(Untrue::Changed),
            Place::Next => match record(&mut transaction, claimed, request).await? {
                Ok(()) => Verdict::Recorded,
                Err(untrue) => Verdict::Untrue(untrue),
            },
        };
        match verdict {
            Verdict::Untrue(_) => fence(&mut transaction, claimed).await?,
            Verdict::Recorded => advance(&mut transaction, claimed, request).await?,
            Verdict::Repeated => {}
        }
        transaction.commit().await?;
        Ok(verdict)
    }
}

fn place(running: &Running, request: &ReportRequest) -> Result<Place, CallError> {
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

/// Records all of a batch, or nothing.
async fn record(
    connection: &mut PgConnection,
    claimed: &Claimed,
    request: &ReportRequest,
) -> Result<Result<(), Untrue>, CallError> {
    let report = match Report::read(request) {
        Ok(report) => report,
        Err(untrue) => return Ok(Err(untrue)),
    };
    let held = held(connection, claimed, report.allowances()).await?;
    let effects = match report.apply(&balances(&held)) {
        Ok(effects) => effects,
        Err(untrue) => return Ok(Err(untrue)),
    };
    store_balances(connection, claimed, &effects).await?;
    refund(connection, claimed, &effects).await?;
    let records = records(&held, request.seq.cast_signed(), &report, &effects);
    let keys = claimed.tenant.keys();
    audit::append(connection, keys, claimed.id.incarnation, records).await?;
    Ok(Ok(()))
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

impl Held {
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

/// This incarnation's allowances of those ids. Its row is locked, and with it
/// every allowance of it.
async fn held(
    connection: &mut PgConnection,
    claimed: &Claimed,
    ids: HashSet<Uuid>,
) -> Result<HashMap<Uuid, Held>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let rows = sqlx::query!(
        r#"select allowance_id, granted, used, returned, state, user_uid, token_id, version,
                  service_account_name, granted_time as "granted_time: DbTime",
                  expires_time as "expires_time: DbTime"
           from allowance
           where tenant_id = $1 and incarnation_id = $2 and allowance_id = any($3)"#,
        claimed.id.tenant.as_uuid(),
        claimed.id.incarnation,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter().map(|row| {
        let balance = Balance {
            granted: row.granted,
            used: row.used,
            returned: row.returned,
            state: BalanceState::parse(&row.state),
        };
        let held = Held {
            balance,
            user: row.user_uid,
            token: row.token_id,
            version: row.version,
            service_account_name: row.service_account_name,
            granted_time: row.granted_time,
            expires_time: row.expires_time,
        };
        (row.allowance_id, held)
    });
    Ok(rows.collect())
}

async fn store_balances(
    connection: &mut PgConnection,
    claimed: &Claimed,
    effects: &Effects,
) -> Result<(), sqlx::Error> {
    let mut ids = Vec::new();
    let (mut used, mut returned, mut states) = (Vec::new(), Vec::new(), Vec::new());
    for (id, balance) in &effects.balances {
        ids.push(*id);
        used.push(balance.used);
        returned.push(balance.returned);
        states.push(balance.state.as_str().to_owned());
    }
    sqlx::query!(
        "update allowance a set used = n.used, returned = n.returned, state = n.state
         from unnest($2::uuid[], $3::int[], $4::int[], $5::text[])
              as n (allowance_id, used, returned, state)
         where a.tenant_id = $1 and a.allowance_id = n.allowance_id",
        claimed.id.tenant.as_uuid(),
        &ids,
        &used,
        &returned,
        &states,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives back to quotas what closed allowances leave.
async fn refund(
    connection: &mut PgConnection,
    claimed: &Claimed,
    effects: &Effects,
) -> Result<(), sqlx::Error> {
    if effects.refunds.is_empty() {
        return Ok(());
    }
    let (ids, units): (Vec<Uuid>, Vec<i32>) = effects.refunds.iter().unzip();
    sqlx::query!(
        "select refund($1, $2, $3)",
        claimed.id.tenant.as_uuid(),
        &ids,
        &units,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn advance(
    connection: &mut PgConnection,
    claimed: &Claimed,
    request: &ReportRequest,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update incarnation set last_report_seq = $3, last_report_digest = $4
         where tenant_id = $1 and incarnation_id = $2",
        claimed.id.tenant.as_uuid(),
        claimed.id.incarnation,
        request.seq.cast_signed(),
        request.digest,
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
