//! Consume and Release: units of counters that workloads keep themselves.
//!
//! Nothing is handed out ahead here, as it is with allowances: each answer is one
//! transaction, in which all quotas cover the units or none is touched, and which
//! leaves the answer behind under the request's idempotency key. A denial leaves
//! nothing, so the same key may succeed later.

use std::collections::HashMap;

use bursar_wire::v1alpha1::count_response::Answer;
use bursar_wire::v1alpha1::{CountRequest, CountResponse, Quotas};
use prost::Message as _;
use sqlx::PgConnection;
use uuid::Uuid;

use super::VaultService;
use super::denial;
use super::describe_quotas::quota_uses;
use super::entitlement::{Barred, Exhausted, Refusal};
use super::error::CallError;
use super::incarnation::Claimed;
use super::metrics;
use super::reader::Reader;
use super::wish::user_name;
use crate::names::{Counter, IdempotencyKey, ServiceAccountName, UserName};
use crate::quotas::{self, Charge, Stored, UsageId};
use crate::rows::{Claim, Counting, IdempotencyKeyRow, Operation};
use crate::tenant::Tenant;

/// The most units of one request.
const MOST_UNITS: u64 = 1_000_000_000;

/// A request whose names are names.
struct Wish {
    operation: Operation,
    user: UserName,
    counter: Counter,
    amount: i64,
    key: IdempotencyKey,
}

/// What becomes of it.
enum Decision {
    Counted(Quotas),
    /// It was counted before, and this is what was answered.
    Repeated(Quotas),
    Denied(Refusal),
    /// A window ended meanwhile, or a quota was changed.
    Moved,
}

impl VaultService {
    pub(crate) async fn count(
        &self,
        claimed: Claimed,
        operation: Operation,
        request: CountRequest,
    ) -> Result<CountResponse, CallError> {
        let wish = Wish::read(operation, request)?;
        let call = match operation {
            Operation::Consume => metrics::Counting::Consume,
            Operation::Release => metrics::Counting::Release,
        };
        let (answer, of) = loop {
            match self.decide_count(&claimed, &wish).await? {
                Decision::Counted(quotas) => {
                    break (Answer::Counted(quotas), metrics::Answer::Counted);
                }
                Decision::Repeated(quotas) => {
                    break (Answer::Counted(quotas), metrics::Answer::Repeated);
                }
                Decision::Denied(refusal) => {
                    let of = refusal.answer();
                    break (Answer::Denied(refusal.into()), of);
                }
                // The next windows last for a while, and quotas change seldom.
                Decision::Moved => {}
            }
        };
        self.metrics().counting(call, of);
        Ok(CountResponse {
            answer: Some(answer),
        })
    }

    /// Decides, and commits what is counted together with its answer.
    async fn decide_count(&self, claimed: &Claimed, wish: &Wish) -> Result<Decision, CallError> {
        let tenant = &claimed.tenant;
        let mut transaction = self.vault().begin().await?;
        let running = self.lock(&mut transaction, claimed).await?;
        let service_account = running.incarnation.service_account_name;
        let mut reader = Reader::new(tenant, &mut transaction);
        let decision = decide(&mut reader, &service_account, wish).await?;
        let failures = reader.failures;
        if let Decision::Counted(_) = &decision {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        if let Decision::Denied(refusal) = &decision {
            denial::count(self.vault().pool(), tenant, &service_account, refusal).await?;
        }
        self.record_failures(&failures).await;
        Ok(decision)
    }
}

impl Wish {
    fn read(operation: Operation, request: CountRequest) -> Result<Self, CallError> {
        let counter = Counter::try_from(request.counter).ok();
        let amount = (1..=MOST_UNITS).contains(&request.amount);
        Ok(Self {
            operation,
            user: user_name(request.user_id)?,
            counter: counter.filter(Counter::is_own).ok_or(CallError::Malformed(
                "counter is not one of a workload's own",
            ))?,
            amount: i64::try_from(request.amount)
                .ok()
                .filter(|_| amount)
                .ok_or(CallError::Malformed("amount is 1 to 1,000,000,000"))?,
            key: IdempotencyKey::try_from(request.idempotency_key)
                .map_err(|_| CallError::Malformed("idempotency_key is not one"))?,
        })
    }
}

const DAMAGED: Refusal = Refusal::Forbidden(Barred::IntegrityFailure);

/// What the caller is answered, from rows that are ours.
async fn decide(
    reader: &mut Reader<'_>,
    service_account: &ServiceAccountName,
    wish: &Wish,
) -> Result<Decision, CallError> {
    let user = match reader.user(&wish.user, service_account).await? {
        Ok(user) => user,
        Err(barred) => return Ok(Decision::Denied(Refusal::Forbidden(barred))),
    };
    let counting = Counting {
        user: user.uid,
        service_account: service_account.clone(),
        counter: wish.counter.clone(),
        key: wish.key.clone(),
        operation: wish.operation,
        amount: wish.amount,
    };
    let keys = reader.tenant.keys();
    let counted_time = match counting.claim(reader.connection, keys).await? {
        Claim::First(counted_time) => counted_time,
        Claim::Taken(row) => return Ok(again(reader, &counting, row)),
    };
    // Not locked: those who lock a row to read it let nobody change it while they are
    // many. What is counted under the lock of its windows is counted by the quotas of
    // that moment, or decided anew.
    let mut stored = Stored::read(reader.connection, reader.tenant).await?;
    let set_xmin = stored.set_xmin.take();
    // Nobody knows whom a damaged quota was about.
    let Some((quotas, _)) = reader.quotas(stored) else {
        return Ok(Decision::Denied(DAMAGED));
    };
    let actor = quotas::User {
        user: user.uid,
        tokens: &[],
        service_account,
    };
    let concerns = quotas::concerning_counter(&quotas, &wish.counter, &actor);
    if concerns.is_empty() {
        return Ok(Decision::Denied(Refusal::CounterNotFound));
    }
    let charges = quotas::charges(&concerns);
    let (tenant, connection) = (reader.tenant, &mut *reader.connection);
    let released = match wish.operation {
        Operation::Consume => match consume(connection, tenant, wish, &charges, set_xmin).await? {
            Consumed::Counted => HashMap::new(),
            Consumed::Exhausted(exhausted) => {
                return Ok(Decision::Denied(Refusal::QuotaExhausted(exhausted)));
            }
            Consumed::Moved => return Ok(Decision::Moved),
        },
        Operation::Release => release(connection, tenant, wish, &charges).await?,
    };
    let uses = quotas::uses(connection, tenant, &concerns).await?;
    let quotas = quota_uses(&concerns, &uses, &released, &wish.user, &HashMap::new());
    counting
        .store(connection, keys, counted_time, quotas.encode_to_vec())
        .await?;
    Ok(Decision::Counted(quotas))
}

/// The answer to a key that was used before. A row that is not ours decides nothing,
/// and least of all that something was counted.
fn again(reader: &mut Reader<'_>, counting: &Counting, row: IdempotencyKeyRow) -> Decision {
    let checked = row.verify(reader.tenant.keys());
    let Some(row) = reader.noted(checked) else {
        return Decision::Denied(DAMAGED);
    };
    if !counting.is_of(&row) {
        return Decision::Denied(Refusal::IdempotencyKeyReused);
    }
    Quotas::decode(row.answer.as_slice()).map_or(
        // Only a later release writes what this one cannot read.
        Decision::Denied(DAMAGED),
        Decision::Repeated,
    )
}

enum Consumed {
    Counted,
    Exhausted(Exhausted),
    Moved,
}

async fn consume(
    connection: &mut PgConnection,
    tenant: &Tenant,
    wish: &Wish,
    charges: &[Charge],
    set_xmin: Option<String>,
) -> Result<Consumed, CallError> {
    let usages: Vec<Uuid> = charges.iter().map(|it| it.usage.as_uuid()).collect();
    let descriptions: Vec<String> = charges.iter().map(|it| it.description.clone()).collect();
    let periods: Vec<Option<i64>> = charges.iter().map(|it| it.period).collect();
    let limits: Vec<Option<i64>> = charges.iter().map(|it| it.limit).collect();
    let done = sqlx::query!(
        r#"select outcome as "outcome!", exhausted as "exhausted!", retry_in_ms
           from consume_units($1, $2, $3, $4, $5, $6, $7)"#,
        tenant.uuid(),
        wish.amount,
        &usages,
        &descriptions,
        &periods as &[Option<i64>],
        &limits as &[Option<i64>],
        set_xmin,
    )
    .fetch_one(connection)
    .await?;
    Ok(match done.outcome.as_str() {
        "Counted" => Consumed::Counted,
        "Moved" => Consumed::Moved,
        _ => {
            let usages: Vec<UsageId> = done.exhausted.into_iter().map(UsageId::from).collect();
            Consumed::Exhausted(Exhausted {
                names: quotas::limiting(charges, &usages),
                usages,
                retry_in_ms: done.retry_in_ms,
            })
        }
    })
}

/// Gives back; how much to which count.
async fn release(
    connection: &mut PgConnection,
    tenant: &Tenant,
    wish: &Wish,
    charges: &[Charge],
) -> Result<HashMap<UsageId, i64>, CallError> {
    let usages: Vec<Uuid> = charges.iter().map(|it| it.usage.as_uuid()).collect();
    let periods: Vec<Option<i64>> = charges.iter().map(|it| it.period).collect();
    let done = sqlx::query!(
        r#"select usage_ids as "usage_ids!", released as "released!"
           from release_units($1, $2, $3, $4)"#,
        tenant.uuid(),
        wish.amount,
        &usages,
        &periods as &[Option<i64>],
    )
    .fetch_one(connection)
    .await?;
    let usages = done.usage_ids.into_iter().map(UsageId::from);
    Ok(usages.zip(done.released).collect())
}
