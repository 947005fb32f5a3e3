//! Why a call was refused: recorded for those who may read the audit, and never
//! told to the caller.

use std::collections::HashMap;

use bursar_wire::people::is_decision_id;
use bursar_wire::v1alpha1;
use bursar_wire::{DENIALS_AN_HOUR, QUOTAS_TOLD};
use jiff::Timestamp;
use sqlx::PgConnection;

use super::VaultService;
use super::account::Untrue;
use super::entitlement::{Barred, Refusal};
use super::error::CallError;
use super::grant::{Entitled, entitled};
use super::incarnation::{Claimed, Running};
use super::reader::Reader;
use super::report::{self, Place};
use super::snapshot::Snapshot;
use super::watchers::WatcherId;
use crate::audit::{Outcome, Record};
use crate::names::{AppName, Purpose, QuotaName, TokenName, UserName};
use crate::rows::text_enum;

/// A code that says less than there is to know.
const FORBIDDEN: &str = "Forbidden";
/// The code that comes with the names of quotas.
const QUOTA_EXHAUSTED: &str = "QuotaExhausted";
/// The longest code.
const MOST_CODE_BYTES: usize = 40;

text_enum! {
    /// Why a call was Forbidden, found by the rules of grants when the vault was
    /// told of it.
    DenialReason {
        /// There is no TokenUser of that name.
        NoSuchUser,
        /// The user is suspended.
        UserSuspended,
        /// The pod's service account is not among the user's workloads.
        WorkloadNotListed,
        /// The user has no token of that name.
        NoSuchToken,
        /// The token has consumers, and the pod's service account is none of them.
        NotAConsumer,
        /// The token is not for that purpose, to this service account.
        PurposeNotListed,
        /// A row that decides is not what the vault wrote.
        IntegrityFailure,
        /// The user has several tokens, and none was named.
        TokenAmbiguous,
        /// No value was stored yet.
        TokenHasNoValue,
        /// Every version is revoked.
        TokenRevoked,
        /// The token's expirationTime has passed.
        TokenExpired,
        /// Nothing stands in the way any more: it changed meanwhile.
        AllowedNow,
    }
}

/// A refusal that a broker tells of, in words of their kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    decision_id: String,
    code: String,
    user: Option<UserName>,
    token: Option<TokenName>,
    app_name: Option<AppName>,
    purpose: Option<Purpose>,
    /// Those that are used up, with the code that says so.
    quotas: Vec<QuotaName>,
    time: Timestamp,
}

impl Told {
    /// Reads what a broker tells.
    ///
    /// # Errors
    /// [`Untrue`] when no broker of ours can have written it.
    pub(crate) fn read(denial: &v1alpha1::Denial) -> Result<Self, Untrue> {
        let is_code = |text: &str| {
            (1..=MOST_CODE_BYTES).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphabetic())
        };
        if !is_decision_id(&denial.decision_id) || !is_code(&denial.code) {
            return Err(Untrue::Denial);
        }
        let time = Timestamp::from_millisecond(denial.time_ms).map_err(|_| Untrue::Times)?;
        if time < Timestamp::UNIX_EPOCH {
            return Err(Untrue::Times);
        }
        let quotas = denial.quotas.iter().take(QUOTAS_TOLD);
        let quotas = quotas.map(|name| QuotaName::try_from(name.as_str()));
        Ok(Self {
            decision_id: denial.decision_id.clone(),
            code: denial.code.clone(),
            user: name(&denial.user_id)?,
            token: name(&denial.token)?,
            app_name: name(&denial.app_name)?,
            purpose: name(&denial.purpose)?,
            quotas: quotas
                .collect::<Result<_, _>>()
                .map_err(|_| Untrue::Claim)?,
            time,
        })
    }

    /// As the reason of a record has it.
    fn used_up(&self) -> Option<String> {
        let names: Vec<&str> = self.quotas.iter().map(QuotaName::as_str).collect();
        (!names.is_empty()).then(|| format!("TokenQuota {}", names.join(", ")))
    }

    fn record(self, running: &Running, reason: Option<String>) -> Record {
        let time = self.time.into();
        Record {
            service_account_name: running.incarnation.service_account_name.to_string(),
            app_name: self.app_name.map_or_else(String::new, |it| it.to_string()),
            purpose: self.purpose.map_or_else(String::new, |it| it.to_string()),
            decision_id: Some(self.decision_id),
            code: Some(self.code),
            reason,
            user_name: self.user.map(|name| name.to_string()),
            token_name: self.token.map(|name| name.to_string()),
            ..Record::new(Outcome::Denied, time, time)
        }
    }
}

/// The name, if there is one.
fn name<T: for<'a> TryFrom<&'a str>>(text: &str) -> Result<Option<T>, Untrue> {
    match text {
        "" => Ok(None),
        text => T::try_from(text).map(Some).map_err(|_| Untrue::Claim),
    }
}

/// What stands between a service account and a token, beside the purpose.
#[derive(Clone)]
enum Standing {
    Refused(DenialReason),
    /// It may read; for these purposes only, if there are any.
    May(Option<Vec<Purpose>>),
}

impl VaultService {
    /// The records of the denials in a report, as far as the pod's hour has room for
    /// them. This takes no lock that lasts, and reads what may have changed since.
    pub(crate) async fn explain(
        &self,
        claimed: &Claimed,
        request: &v1alpha1::ReportRequest,
    ) -> Result<Vec<Record>, CallError> {
        // One that is ill-formed ends the incarnation where the report is taken.
        let denials = request.denials.iter();
        let Ok(told) = denials.map(Told::read).collect::<Result<Vec<_>, _>>() else {
            return Ok(Vec::new());
        };
        if told.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.vault().pool().acquire().await?;
        let running = self.lock_late(&mut connection, claimed).await?;
        // What was taken before, or is out of order now, will not be recorded.
        if !matches!(report::place(&running, request)?, Place::Next) {
            return Ok(Vec::new());
        }
        let room = usize::from(DENIALS_AN_HOUR) - taken(&mut connection, claimed, &running).await?;
        let mut reader = Reader::new(&claimed.tenant, &mut connection);
        let mut standings = HashMap::new();
        let mut records = Vec::new();
        for told in told.into_iter().take(room) {
            let reason = match told.code.as_str() {
                FORBIDDEN => {
                    let asker = (claimed.id, &running);
                    let reason = reason(&mut reader, asker, &told, &mut standings).await?;
                    reason.map(|reason| reason.as_str().to_owned())
                }
                QUOTA_EXHAUSTED => told.used_up(),
                _ => None,
            };
            records.push(told.record(&running, reason));
        }
        let failures = reader.failures;
        drop(connection);
        self.record_failures(&failures).await;
        Ok(records)
    }
}

type Standings = HashMap<(UserName, Option<TokenName>, bool), Standing>;

async fn reason(
    reader: &mut Reader<'_>,
    (id, running): (WatcherId, &Running),
    told: &Told,
    known: &mut Standings,
) -> Result<Option<DenialReason>, CallError> {
    let Some(user) = &told.user else {
        return Ok(None);
    };
    let account = &running.incarnation.service_account_name;
    // A call that claims no purpose asks about a user, not for a token.
    let reads = told.purpose.is_some();
    let key = (user.clone(), told.token.clone(), reads);
    let standing = match known.get(&key) {
        Some(standing) => standing.clone(),
        None => {
            let standing = match reads {
                true => {
                    let token = told.token.as_ref();
                    let snapshot = Snapshot::read(reader.connection, id, user, token).await?;
                    let snapshot = snapshot.ok_or(CallError::Unauthenticated)?;
                    standing(entitled(reader, account, user, token, snapshot).await?)
                }
                false => {
                    let barred = reader.user(user, account).await?.err();
                    barred.map_or(Standing::May(None), |it| Standing::Refused(it.into()))
                }
            };
            known.insert(key, standing.clone());
            standing
        }
    };
    Ok(Some(match (standing, &told.purpose) {
        (Standing::Refused(reason), _) => reason,
        (Standing::May(Some(only)), Some(purpose)) if !only.contains(purpose) => {
            DenialReason::PurposeNotListed
        }
        _ => DenialReason::AllowedNow,
    }))
}

fn standing(entitled: Result<Box<Entitled>, Refusal>) -> Standing {
    Standing::Refused(match entitled {
        Ok(entitled) => return Standing::May(entitled.visible.purposes),
        Err(Refusal::Forbidden(barred)) => barred.into(),
        Err(Refusal::TokenNotFound) => DenialReason::NoSuchToken,
        Err(Refusal::TokenAmbiguous(_)) => DenialReason::TokenAmbiguous,
        Err(Refusal::NoVersion) => DenialReason::TokenHasNoValue,
        Err(Refusal::Revoked) => DenialReason::TokenRevoked,
        Err(Refusal::Expired) => DenialReason::TokenExpired,
        // Only a grant charges quotas, and none was asked for; the rest are of counters.
        Err(
            Refusal::QuotaExhausted(_) | Refusal::CounterNotFound | Refusal::IdempotencyKeyReused,
        ) => DenialReason::AllowedNow,
    })
}

impl From<Barred> for DenialReason {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::NoSuchUser => Self::NoSuchUser,
            Barred::UserSuspended => Self::UserSuspended,
            Barred::WorkloadNotListed => Self::WorkloadNotListed,
            Barred::NoSuchToken => Self::NoSuchToken,
            Barred::NotAConsumer => Self::NotAConsumer,
            Barred::IntegrityFailure => Self::IntegrityFailure,
        }
    }
}

/// How many of its hour the pod has used up, at most all.
async fn taken(
    connection: &mut PgConnection,
    claimed: &Claimed,
    running: &Running,
) -> Result<usize, sqlx::Error> {
    let taken = sqlx::query_scalar!(
        "select count from denial_told
         where tenant_id = $1 and pod_uid = $2 and since_time > now() - interval '1 hour'",
        claimed.id.tenant.as_uuid(),
        running.incarnation.pod_uid,
    )
    .fetch_optional(connection)
    .await?;
    let taken = usize::try_from(taken.unwrap_or_default()).unwrap_or(usize::MAX);
    Ok(taken.min(DENIALS_AN_HOUR.into()))
}

/// Takes room for so many denials in the pod's hour, which begins with the first; how
/// many there is room for. All runs of a pod share it.
pub(crate) async fn take_room(
    connection: &mut PgConnection,
    claimed: &Claimed,
    running: &Running,
    told: usize,
) -> Result<usize, sqlx::Error> {
    if told == 0 {
        return Ok(0);
    }
    let wanted = i32::try_from(told).unwrap_or(i32::MAX);
    let taken = sqlx::query_scalar!(
        r#"insert into denial_told as d (tenant_id, pod_uid, since_time, count)
           values ($1, $2, now(), $3)
           on conflict (tenant_id, pod_uid) do update set
               since_time = case when d.since_time > now() - interval '1 hour'
                                 then d.since_time else now() end,
               count = $3 + case when d.since_time > now() - interval '1 hour'
                                 then least(d.count, $4) else 0 end
           returning count"#,
        claimed.id.tenant.as_uuid(),
        running.incarnation.pod_uid,
        wanted,
        i32::from(DENIALS_AN_HOUR),
    )
    .fetch_one(connection)
    .await?;
    let beyond = taken
        .saturating_sub(DENIALS_AN_HOUR.into())
        .clamp(0, wanted);
    Ok(usize::try_from(wanted - beyond).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bursar_wire::v1alpha1::Denial;

    use super::{DenialReason, Told, Untrue};

    fn denial() -> Denial {
        Denial {
            decision_id: "0123456789abcdef0123456789abcdef".into(),
            code: "Forbidden".into(),
            user_id: "ana".into(),
            token: "github".into(),
            app_name: "ci".into(),
            purpose: "nightly sync".into(),
            time_ms: 1_000,
            quotas: vec!["daily".into()],
        }
    }

    #[test]
    fn every_word_of_a_denial_is_checked() {
        let with = |change: fn(&mut Denial)| {
            let mut denial = denial();
            change(&mut denial);
            Told::read(&denial).err()
        };
        assert_eq!(with(|_| ()), None);
        assert_eq!(with(|d| d.decision_id.clear()), Some(Untrue::Denial));
        assert_eq!(with(|d| d.decision_id.push('0')), Some(Untrue::Denial));
        assert_eq!(
            with(|d| d.decision_id = "A".repeat(32)),
            Some(Untrue::Denial)
        );
        assert_eq!(with(|d| d.code.clear()), Some(Untrue::Denial));
        assert_eq!(with(|d| d.code = "a b".into()), Some(Untrue::Denial));
        assert_eq!(with(|d| d.code = "a".repeat(41)), Some(Untrue::Denial));
        assert_eq!(with(|d| d.user_id = "Ana".into()), Some(Untrue::Claim));
        assert_eq!(with(|d| d.token = "a/b".into()), Some(Untrue::Claim));
        assert_eq!(with(|d| d.app_name = "a\nb".into()), Some(Untrue::Claim));
        assert_eq!(with(|d| d.purpose = " ".into()), Some(Untrue::Claim));
        assert_eq!(with(|d| d.quotas.push("a b".into())), Some(Untrue::Claim));
        assert_eq!(with(|d| d.time_ms = -1), Some(Untrue::Times));
        assert_eq!(with(|d| d.time_ms = i64::MAX), Some(Untrue::Times));
    }

    #[test]
    fn every_reason_stands_in_the_reference() {
        let page = include_str!("../../../docs/reference.md");
        for reason in DenialReason::ALL {
            let row = format!("| `{}` | ", reason.as_str());
            assert!(page.contains(&row), "{row}");
        }
    }

    #[test]
    fn of_a_caller_that_was_not_verified_nothing_need_be_told() {
        let denial = Denial {
            user_id: String::new(),
            token: String::new(),
            app_name: String::new(),
            purpose: String::new(),
            ..denial()
        };
        let told = Told::read(&denial).unwrap();
        assert_eq!((told.user, told.token, told.purpose), (None, None, None));
    }
}
