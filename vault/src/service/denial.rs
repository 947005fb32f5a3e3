//! Denials: counted by the hour, so that a flood of them cannot fill the disk.

use bursar_wire::v1alpha1::{Denied, denied};
use sqlx::PgExecutor;

use super::entitlement::Refusal;
use super::metrics::Answer;
use crate::names::ServiceAccountName;
use crate::tenant::Tenant;

impl Refusal {
    /// As it stands in the table and in metrics.
    pub(crate) const fn answer(&self) -> Answer {
        match self {
            Self::Forbidden(_) => Answer::Forbidden,
            Self::TokenNotFound => Answer::TokenNotFound,
            Self::TokenAmbiguous(_) => Answer::TokenAmbiguous,
            Self::NoVersion => Answer::NoVersion,
            Self::Revoked => Answer::Revoked,
            Self::Expired => Answer::Expired,
            Self::QuotaExhausted(_) => Answer::QuotaExhausted,
            Self::CounterNotFound => Answer::CounterNotFound,
            Self::IdempotencyKeyReused => Answer::IdempotencyKeyReused,
        }
    }

    /// As brokers read it.
    pub(crate) const fn code(&self) -> denied::Code {
        match self {
            Self::Forbidden(_) => denied::Code::Forbidden,
            Self::TokenNotFound => denied::Code::TokenNotFound,
            Self::TokenAmbiguous(_) => denied::Code::TokenAmbiguous,
            Self::NoVersion => denied::Code::NoVersion,
            Self::Revoked => denied::Code::Revoked,
            Self::Expired => denied::Code::Expired,
            Self::QuotaExhausted(_) => denied::Code::QuotaExhausted,
            Self::CounterNotFound => denied::Code::CounterNotFound,
            Self::IdempotencyKeyReused => denied::Code::IdempotencyKeyReused,
        }
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code().into();
        let plain = Self {
            code,
            ..Self::default()
        };
        match refusal {
            Refusal::TokenAmbiguous(tokens) => Self { tokens, ..plain },
            Refusal::QuotaExhausted(exhausted) => Self {
                retry_after_ms: exhausted.retry_in_ms.map(i64::unsigned_abs),
                quotas: exhausted.names,
                ..plain
            },
            _ => plain,
        }
    }
}

/// Counts one more denial. Nothing of the request is stored but who made it.
pub(crate) async fn count(
    connection: impl PgExecutor<'_>,
    tenant: &Tenant,
    service_account: &ServiceAccountName,
    refusal: &Refusal,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select count_denial($1, $2, $3)",
        tenant.uuid(),
        service_account.as_str(),
        refusal.answer().as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
