//! Grant: an allowance for one token and caller, committed before it is answered.
//!
//! It takes three round trips:
//!
//! 1. what bears on the answer is read in one snapshot, without a lock, and verified;
//! 2. the answer is written and committed, with what was charged for it;
//! 3. what was granted is read again, in a new snapshot, before the broker hears of it.
//!
//! What changes after the first is seen. The second locks the row of the asking run
//! and does nothing unless it is the one that was verified and answers its next request;
//! otherwise all is read again. All else that decides raises an epoch or ends a row
//! when it changes, and the allowance carries the epochs of the first snapshot: a
//! change that is committed before the third snapshot is taken differs from them there,
//! whether it came before the second step or after it. A change that is committed
//! later lists its holders in a snapshot that is later still, in which the allowance
//! is. So whichever comes first, one of the two sees the other.

use std::time::Duration;

use bursar_seal::{Ciphertext, DataKey};
use bursar_wire::v1alpha1::{self, grant_response::Answer};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tokio::time::Instant;
use uuid::Uuid;

use super::VaultService;
use super::answer::{Allowance, Attempt, Decision, again, deny};
use super::entitlement::{Barred, Refusal, Visible};
use super::error::CallError;
use super::incarnation::{Claimed, Shown};
use super::metrics;
use super::reader::Reader;
use super::snapshot::Snapshot;
use super::stages::Stage;
use super::turns::Turn;
use super::unix_ms;
use super::watchers::WatcherId;
use super::wish::Wish;
use crate::db_time::DbTime;
use crate::names::{Counter, ServiceAccountName, TokenName, UserName};
use crate::quotas::{self, Charge, Stored};
use crate::rows::{User, Version};
use crate::tenant::Tenant;

/// How long a request waits for what others give back of a used-up quota.
const RETURN_WAIT: Duration = Duration::from_millis(300);
/// How often it looks.
const RETURN_POLL: Duration = Duration::from_millis(30);

/// The run that asks, as it was read and verified.
pub(crate) struct Asker {
    pub(crate) id: WatcherId,
    pub(crate) tenant: Tenant,
    pub(crate) service_account: ServiceAccountName,
    /// The MAC of its row, by which it is known again.
    pub(crate) mac: Vec<u8>,
    pub(crate) vouched_until: DbTime,
    pub(crate) last_request_no: i64,
    /// The allowance that the last request was answered with, if it was granted one.
    pub(crate) last_allowance: Option<Uuid>,
}

/// What may be served, before it is an allowance.
pub(crate) struct Entitled {
    pub(crate) user: User,
    pub(crate) visible: Visible,
    pub(crate) version: Version,
    pub(crate) key: DataKey,
    pub(crate) ciphertext: Ciphertext,
    /// What its accesses are charged to.
    pub(crate) charges: Vec<Charge>,
    pub(crate) quota_epoch: i64,
}

impl Entitled {
    /// User, token and quotas as they are.
    pub(crate) fn decided_on(&self) -> ((Uuid, i64), (Uuid, i64, i32), i64) {
        let token = &self.visible.token;
        (
            (self.user.uid.as_uuid(), self.user.epoch),
            (token.id.as_uuid(), token.epoch, self.version.version.into()),
            self.quota_epoch,
        )
    }
}

impl VaultService {
    pub(crate) async fn grant(
        &self,
        shown: &Shown,
        turn: &mut Turn,
        request: v1alpha1::GrantRequest,
    ) -> Result<v1alpha1::GrantResponse, CallError> {
        let wish = Wish::read(request)?;
        let (mut connection, decision) = self.decide_or_wait(shown, turn, &wish).await?;
        let (entitled, allowance) = match decision {
            Decision::Granted(entitled, allowance) => (entitled, allowance),
            Decision::Denied(refusal) => {
                self.metrics().grant(refusal.answer());
                return Ok(respond(Answer::Denied(refusal.into())));
            }
            Decision::Void(allowance) => return Ok(self.ask_again(allowance)),
        };
        self.reached(Stage::GrantCommitted).await;
        if !still_good(&mut connection, shown.id, allowance.id).await? {
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
    /// rest, and it counts as used up only when nothing comes back in time. Meanwhile
    /// this holds no lock, no connection, and no turn that others wait for.
    async fn decide_or_wait(
        &self,
        shown: &Shown,
        turn: &mut Turn,
        wish: &Wish,
    ) -> Result<(PoolConnection<Postgres>, Decision), CallError> {
        let deadline = Instant::now() + RETURN_WAIT;
        let mut may_come_back = wish.is_awaited;
        loop {
            let mut connection = self.vault().pool().acquire().await?;
            let attempt = self.decide(&mut connection, shown, wish, may_come_back);
            match attempt.await? {
                Attempt::Decided(decision) => return Ok((connection, decision)),
                Attempt::Moved => {}
                Attempt::UsedUp(tenant, usages) => {
                    drop(connection);
                    may_come_back = self.ask_back(&tenant, &usages).await?;
                    if may_come_back {
                        turn.rest(RETURN_POLL).await;
                        may_come_back = Instant::now() < deadline;
                    }
                }
            }
        }
    }

    /// Reads what bears on the answer, decides and commits the answer; a quota that is
    /// used up is no answer yet while something may come back.
    async fn decide(
        &self,
        connection: &mut PgConnection,
        shown: &Shown,
        wish: &Wish,
        may_come_back: bool,
    ) -> Result<Attempt, CallError> {
        let token = wish.token.as_ref();
        let snapshot = Snapshot::read(connection, shown.id, &wish.user, token).await?;
        let snapshot = snapshot.ok_or(CallError::Unauthenticated)?;
        let asker = self.asker(connection, shown, &snapshot).await?;
        wish.check_number(asker.last_request_no)?;
        let mut reader = Reader::new(&asker.tenant, connection);
        let (user, account) = (&wish.user, &asker.service_account);
        let entitled = entitled(&mut reader, account, user, token, snapshot).await?;
        let failures = reader.failures;
        self.reached(Stage::GrantDecided).await;

        let attempt = if asker.last_request_no == wish.number {
            let decision = again(&mut *connection, &asker, entitled).await?;
            Attempt::Decided(decision)
        } else {
            match entitled {
                Ok(entitled) => {
                    self.open(&mut *connection, &asker, wish, entitled, may_come_back)
                        .await?
                }
                Err(refusal) => deny(&mut *connection, &asker, wish, refusal).await?,
            }
        };
        for failure in &failures {
            self.record_failure(&mut *connection, failure).await;
        }
        Ok(attempt)
    }

    /// Who asks, if the snapshot proves it and it lives.
    async fn asker(
        &self,
        connection: &mut PgConnection,
        shown: &Shown,
        snapshot: &Snapshot,
    ) -> Result<Asker, CallError> {
        let row = snapshot.tenant.clone().ok_or(CallError::Unauthenticated)?;
        let tenant = self.vault().live_tenant(connection, row).await?;
        let claimed = Claimed {
            id: shown.id,
            tenant: tenant.ok_or(CallError::Unauthenticated)?,
            proof: shown.proof.clone(),
        };
        let incarnation = claimed.prove(snapshot.incarnation.clone(), snapshot.fenced)?;
        let vouched_until = self.vouched_until(&incarnation);
        if vouched_until < snapshot.now {
            return Err(CallError::Overdue);
        }
        Ok(Asker {
            id: shown.id,
            tenant: claimed.tenant,
            service_account: incarnation.service_account_name,
            mac: snapshot.incarnation.mac.clone(),
            vouched_until,
            last_request_no: snapshot.last_request_no,
            last_allowance: snapshot.last_allowance_id,
        })
    }
}

/// Whether what the allowance was granted on is still so, in a new snapshot.
async fn still_good(
    connection: &mut PgConnection,
    id: WatcherId,
    allowance: Uuid,
) -> Result<bool, CallError> {
    let standing = sqlx::query_scalar!(
        r#"select standing as "standing!" from allowance_standing
           where tenant_id = $1 and allowance_id = $2"#,
        id.tenant.as_uuid(),
        allowance,
    )
    .fetch_optional(connection)
    .await?;
    Ok(standing.as_deref() == Some("Good"))
}

/// What the caller may be served, from rows that are ours.
pub(crate) async fn entitled(
    reader: &mut Reader<'_>,
    service_account: &ServiceAccountName,
    user: &UserName,
    token: Option<&TokenName>,
    mut snapshot: Snapshot,
) -> Result<Result<Box<Entitled>, Refusal>, CallError> {
    const DAMAGED: Refusal = Refusal::Forbidden(Barred::IntegrityFailure);
    let rows = snapshot.take_account();
    let account = reader
        .account_of(rows, user, service_account, token)
        .await?;
    let account = match account {
        Ok(account) => account,
        Err(barred) => return Ok(Err(Refusal::Forbidden(barred))),
    };
    let (user, visible) = match account.choose(token) {
        Ok(chosen) => chosen,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let stored = Stored::of(reader.tenant, snapshot.quota_set, snapshot.quotas);
    let Some((quotas, quota_epoch)) = reader.quotas(stored) else {
        return Ok(Err(DAMAGED));
    };
    let newest = reader
        .newest_version(&visible.token, snapshot.version)
        .await?;
    if let Err(refusal) = visible.serving(newest.as_ref(), snapshot.now) {
        return Ok(Err(refusal));
    }
    let Some(version) = newest else {
        return Ok(Err(DAMAGED));
    };
    let reader_of_it = quotas::User {
        user: user.uid,
        tokens: &[visible.token.id],
        service_account,
    };
    let concerns = quotas::concerning_counter(&quotas, &Counter::accesses(), &reader_of_it);
    let charges = quotas::charges(&concerns);
    let opened = version.open_key(reader.tenant.keys());
    Ok(match reader.noted(opened).flatten() {
        Some((key, ciphertext)) => Ok(Box::new(Entitled {
            user,
            visible,
            version,
            key,
            ciphertext,
            charges,
            quota_epoch,
        })),
        None => Err(DAMAGED),
    })
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
