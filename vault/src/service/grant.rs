//! Grant: an allowance for one token and caller, committed before it is answered.
//!
//! A grant commits, then reads in a new snapshot whether what it was decided on
//! still stands. A revocation commits, then lists holders in a new snapshot. So
//! whichever comes first, one of the two sees the other.

use std::time::Duration;

use bursar_seal::{Ciphertext, DataKey};
use bursar_wire::v1alpha1::{self, grant_response::Answer};
use sqlx::PgConnection;
use tokio::time::Instant;
use uuid::Uuid;

use super::VaultService;
use super::denial;
use super::entitlement::{Exhausted, Reader, Refusal, Visible};
use super::error::CallError;
use super::incarnation::{Claimed, Running};
use super::metrics;
use super::stages::Stage;
use super::unix_ms;
use crate::db_time::DbTime;
use crate::names::{Counter, TokenName, UserName};
use crate::quotas::{self, Charge, UsageId};
use crate::rows::{User, Version};

/// The most accesses that one allowance is good for.
const MOST_UNITS: u32 = 5_000;
/// The most allowances that one broker has open: as many tokens as it could ask
/// for in a lease, and no more than a row each of somebody who means harm.
const MOST_OPEN: i64 = 10_000;
/// How long a request waits for what others give back of a used-up quota.
const RETURN_WAIT: Duration = Duration::from_millis(300);
/// How often it looks.
const RETURN_POLL: Duration = Duration::from_millis(30);

/// A request whose names are names.
struct Wish {
    number: i64,
    user: UserName,
    token: Option<TokenName>,
    units: i32,
    /// Somebody waits for the answer: it is not only a renewal ahead of time.
    is_awaited: bool,
}

/// What may be served, before it is an allowance.
struct Entitled {
    user: User,
    visible: Visible,
    version: Version,
    key: DataKey,
    ciphertext: Ciphertext,
    /// What its accesses are charged to.
    charges: Vec<Charge>,
    quota_epoch: i64,
}

impl Entitled {
    /// User, token and quotas as they are.
    fn decided_on(&self) -> ((Uuid, i64), (Uuid, i64, i32), i64) {
        let token = &self.visible.token;
        (
            (self.user.uid.as_uuid(), self.user.epoch),
            (token.id.as_uuid(), token.epoch, self.version.version.into()),
            self.quota_epoch,
        )
    }
}

/// A row of `allowance`, as the answer needs it.
struct Allowance {
    id: Uuid,
    granted: i32,
    expires_in_ms: i64,
}

/// What becomes of a request.
enum Decision {
    /// Boxed, because the others are small.
    Granted(Box<Entitled>, Allowance),
    Denied(Refusal),
    /// It was decided before, and that does not stand any more. This is what was
    /// granted then.
    Void(Option<Uuid>),
}

impl VaultService {
    pub(crate) async fn grant(
        &self,
        claimed: Claimed,
        request: v1alpha1::GrantRequest,
    ) -> Result<v1alpha1::GrantResponse, CallError> {
        let wish = Wish::read(request)?;
        let (entitled, allowance) = match self.decide_or_wait(&claimed, &wish).await? {
            Decision::Granted(entitled, allowance) => (entitled, allowance),
            Decision::Denied(refusal) => {
                self.metrics().grant(refusal.answer());
                return Ok(respond(Answer::Denied(refusal.into())));
            }
            Decision::Void(allowance) => return Ok(self.ask_again(allowance)),
        };
        self.reached(Stage::GrantCommitted).await;
        if !self.still_good(&claimed, allowance.id).await? {
            return Ok(self.ask_again(Some(allowance.id)));
        }
        self.metrics().grant(metrics::Answer::Granted);
        Ok(respond(Answer::Granted(granted(*entitled, allowance))))
    }

    fn ask_again(&self, allowance: Option<Uuid>) -> v1alpha1::GrantResponse {
        self.metrics().grant(metrics::Answer::AskAgain);
        respond(Answer::AskAgain(v1alpha1::AskAgain {
            close_allowance_id: allowance.map(|id| id.to_string()),
        }))
    }

    /// Decides. When a quota is used up, those who hold some of it are asked for the
    /// rest, and it counts as used up only when nothing comes back in time.
    async fn decide_or_wait(&self, claimed: &Claimed, wish: &Wish) -> Result<Decision, CallError> {
        let deadline = Instant::now() + RETURN_WAIT;
        let mut may_come_back = wish.is_awaited;
        loop {
            let decision = self.decide(claimed, wish, may_come_back).await?;
            let Decision::Denied(Refusal::QuotaExhausted(exhausted)) = &decision else {
                return Ok(decision);
            };
            if !may_come_back {
                return Ok(decision);
            }
            may_come_back = self.ask_back(claimed, &exhausted.usages).await?;
            if may_come_back {
                tokio::time::sleep(RETURN_POLL).await;
                may_come_back = Instant::now() < deadline;
            }
        }
    }

    /// Decides, stores the answer, and commits both; a quota that is used up is no
    /// answer yet while something may come back.
    async fn decide(
        &self,
        claimed: &Claimed,
        wish: &Wish,
        may_come_back: bool,
    ) -> Result<Decision, CallError> {
        let mut transaction = self.vault().begin().await?;
        let running = self.lock(&mut transaction, claimed).await?;
        wish.check_number(running.last_request_no)?;

        let mut reader = Reader {
            tenant: &claimed.tenant,
            connection: &mut transaction,
            failures: Vec::new(),
        };
        let entitled = entitled(&mut reader, &running, wish).await?;
        let failures = reader.failures;

        let decision = if running.last_request_no == wish.number {
            let earlier = running.last_allowance;
            again(&mut transaction, claimed, earlier, entitled).await?
        } else {
            match self
                .open(&mut transaction, claimed, &running, wish, entitled)
                .await?
            {
                Ok((entitled, allowance)) => {
                    let answer = Some(allowance.id);
                    store_answer(&mut transaction, claimed, wish.number, answer).await?;
                    Decision::Granted(entitled, allowance)
                }
                Err(refusal @ Refusal::QuotaExhausted(_)) if may_come_back => {
                    return Ok(Decision::Denied(refusal));
                }
                Err(refusal) => {
                    let service_account = &running.incarnation.service_account_name;
                    let tenant = &claimed.tenant;
                    denial::count(&mut *transaction, tenant, service_account, &refusal).await?;
                    store_answer(&mut transaction, claimed, wish.number, None).await?;
                    Decision::Denied(refusal)
                }
            }
        };
        self.reached(Stage::GrantDecided).await;
        transaction.commit().await?;
        self.record_failures(&failures).await;
        Ok(decision)
    }

    /// Opens a new allowance for who is entitled: until the lease, the token or a window
    /// of a quota ends, by the database's clock; or says which quotas are used up.
    async fn open(
        &self,
        connection: &mut PgConnection,
        claimed: &Claimed,
        running: &Running,
        wish: &Wish,
        entitled: Result<Entitled, Refusal>,
    ) -> Result<Result<(Box<Entitled>, Allowance), Refusal>, CallError> {
        let entitled = match entitled {
            Ok(entitled) => Box::new(entitled),
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.open_allowances(connection, claimed).await? >= MOST_OPEN {
            return Err(CallError::TooManyOpen);
        }
        let token = &entitled.visible.token;
        let charges = &entitled.charges;
        let usages: Vec<Uuid> = charges.iter().map(|it| it.usage.as_uuid()).collect();
        let descriptions: Vec<String> = charges.iter().map(|it| it.description.clone()).collect();
        let periods: Vec<Option<i64>> = charges.iter().map(|it| it.period).collect();
        let limits: Vec<Option<i64>> = charges.iter().map(|it| it.limit).collect();
        let id = self.random_uuid()?;
        let opened = sqlx::query!(
            r#"select granted as "granted!", expires_in_ms, exhausted as "exhausted!", retry_in_ms
               from open_allowance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                                   make_interval(secs => $12), $13, $14, $15, $16, $17)"#,
            claimed.id.tenant.as_uuid(),
            id,
            claimed.id.incarnation,
            entitled.user.uid.as_uuid(),
            entitled.user.epoch,
            token.id.as_uuid(),
            token.epoch,
            i32::from(entitled.version.version),
            running.incarnation.service_account_name.as_str(),
            entitled.quota_epoch,
            wish.units,
            self.vault().lease().as_secs_f64(),
            token.expiration_time as Option<DbTime>,
            &usages,
            &descriptions,
            &periods as &[Option<i64>],
            &limits as &[Option<i64>],
        )
        .fetch_one(connection)
        .await?;
        Ok(match opened.expires_in_ms {
            Some(expires_in_ms) => {
                let granted = opened.granted;
                let allowance = Allowance {
                    id,
                    granted,
                    expires_in_ms,
                };
                Ok((entitled, allowance))
            }
            None => Err(Refusal::QuotaExhausted(Exhausted {
                usages: opened.exhausted.into_iter().map(UsageId::from).collect(),
                retry_in_ms: opened.retry_in_ms,
            })),
        })
    }

    /// How many this broker has open; counted no further than to the bound.
    async fn open_allowances(
        &self,
        connection: &mut PgConnection,
        claimed: &Claimed,
    ) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar!(
            r#"select count(*) as "count!" from (
                   select from allowance
                   where tenant_id = $1 and incarnation_id = $2 and state = 'Open'
                   limit $3) as open"#,
            claimed.id.tenant.as_uuid(),
            claimed.id.incarnation,
            MOST_OPEN,
        )
        .fetch_one(connection)
        .await
    }

    /// Whether what the allowance was granted on is still so, in a new snapshot.
    async fn still_good(&self, claimed: &Claimed, allowance: Uuid) -> Result<bool, CallError> {
        let standing = sqlx::query_scalar!(
            r#"select standing as "standing!" from allowance_standing
               where tenant_id = $1 and allowance_id = $2"#,
            claimed.id.tenant.as_uuid(),
            allowance,
        )
        .fetch_optional(self.vault().pool())
        .await?;
        Ok(standing.as_deref() == Some("Good"))
    }
}

impl Wish {
    fn read(request: v1alpha1::GrantRequest) -> Result<Self, CallError> {
        let number = i64::try_from(request.request_no)
            .ok()
            .filter(|number| *number > 0);
        let token = request.token.map(TokenName::try_from).transpose();
        let units = request.want.clamp(1, MOST_UNITS);
        Ok(Self {
            number: number.ok_or(CallError::Malformed("request_no begins at 1"))?,
            user: UserName::try_from(request.user_id)
                .map_err(|_| CallError::Malformed("user_id is not the name of a TokenUser"))?,
            token: token.map_err(|_| CallError::Malformed("token is not a StoredToken's name"))?,
            // At most 5,000.
            units: units.cast_signed(),
            is_awaited: request.waiting > 0,
        })
    }

    /// The next number, or the last one again.
    fn check_number(&self, last: i64) -> Result<(), CallError> {
        if self.number == last || Some(self.number) == last.checked_add(1) {
            return Ok(());
        }
        Err(CallError::OutOfOrder {
            what: "request number",
            given: self.number.unsigned_abs(),
            last: last.unsigned_abs(),
        })
    }
}

/// What the caller may be served, from rows that are ours.
async fn entitled(
    reader: &mut Reader<'_>,
    running: &Running,
    wish: &Wish,
) -> Result<Result<Entitled, Refusal>, CallError> {
    let service_account = &running.incarnation.service_account_name;
    let account = reader
        .account(&wish.user, service_account, wish.token.as_ref())
        .await?;
    let Some(account) = account else {
        return Ok(Err(Refusal::Forbidden));
    };
    let (user, visible) = match account.choose(wish.token.as_ref()) {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some((quotas, quota_epoch)) = reader.quotas().await? else {
        return Ok(Err(Refusal::Forbidden));
    };
    let newest = reader.newest_version(&visible.token).await?;
    if let Err(refusal) = visible.serving(newest.as_ref(), running.now) {
        return Ok(Err(refusal));
    }
    let Some(version) = newest else {
        return Ok(Err(Refusal::Forbidden));
    };
    let charges = quotas::charges(
        &quotas,
        &Counter::accesses(),
        &quotas::User {
            user: user.uid,
            token: visible.token.id,
            service_account,
        },
    );
    let opened = version.open_key(reader.tenant.keys());
    Ok(match reader.noted(opened).flatten() {
        Some((key, ciphertext)) => Ok(Entitled {
            user,
            visible,
            version,
            key,
            ciphertext,
            charges,
            quota_epoch,
        }),
        None => Err(Refusal::Forbidden),
    })
}

/// The answer to a request that was answered before: the same, if it is still just
/// what would be granted now. Nothing is granted here and nothing taken back: this
/// may be a late repetition of a request whose answer has long arrived.
async fn again(
    connection: &mut PgConnection,
    claimed: &Claimed,
    earlier: Option<Uuid>,
    entitled: Result<Entitled, Refusal>,
) -> Result<Decision, CallError> {
    let Some(earlier) = earlier else {
        return Ok(match entitled {
            Ok(_) => Decision::Void(None),
            Err(refusal) => Decision::Denied(refusal),
        });
    };
    let found = sqlx::query!(
        r#"select granted, user_uid, user_epoch, token_id, token_epoch, version, quota_epoch,
                  state = 'Open' and expires_time > now() and not recalled as "stands!",
                  floor(extract(epoch from expires_time - now()) * 1000)::bigint as "ms!"
           from allowance
           where tenant_id = $1 and allowance_id = $2 and incarnation_id = $3"#,
        claimed.id.tenant.as_uuid(),
        earlier,
        claimed.id.incarnation,
    )
    .fetch_optional(connection)
    .await?;
    let Some(found) = found else {
        return Ok(Decision::Void(None));
    };
    let decided_on = (
        (found.user_uid, found.user_epoch),
        (found.token_id, found.token_epoch, found.version),
        found.quota_epoch,
    );
    match entitled {
        Ok(entitled) if found.stands && entitled.decided_on() == decided_on => {
            let allowance = Allowance {
                id: earlier,
                granted: found.granted,
                expires_in_ms: found.ms,
            };
            Ok(Decision::Granted(Box::new(entitled), allowance))
        }
        _ => Ok(Decision::Void(Some(earlier))),
    }
}

/// Ids only: keys are unwrapped again for each answer.
async fn store_answer(
    connection: &mut PgConnection,
    claimed: &Claimed,
    number: i64,
    allowance: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update incarnation set last_request_no = $3, last_allowance_id = $4
         where tenant_id = $1 and incarnation_id = $2",
        claimed.id.tenant.as_uuid(),
        claimed.id.incarnation,
        number,
        allowance,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn respond(answer: Answer) -> v1alpha1::GrantResponse {
    v1alpha1::GrantResponse {
        answer: Some(answer),
    }
}

fn granted(entitled: Entitled, allowance: Allowance) -> v1alpha1::Granted {
    let Visible { token, purposes } = entitled.visible;
    let purposes = purposes.map(|purposes| v1alpha1::Purposes {
        purposes: purposes.iter().map(ToString::to_string).collect(),
    });
    v1alpha1::Granted {
        allowance_id: allowance.id.to_string(),
        units: allowance.granted.unsigned_abs(),
        expires_in_ms: allowance.expires_in_ms.unsigned_abs(),
        user_uid: entitled.user.uid.to_string(),
        token_id: token.id.to_string(),
        token: token.name.to_string(),
        provider: token.provider.to_string(),
        version: entitled.version.version.get(),
        version_time_ms: unix_ms(entitled.version.version_time),
        expiration_time_ms: token.expiration_time.map(unix_ms),
        purposes,
        data_key: entitled.key.expose().to_vec(),
        ciphertext: entitled.ciphertext.into_bytes(),
        counted: !entitled.charges.is_empty(),
    }
}
