//! DescribeQuotas: what limits a user and this caller, and how much of it is used.

use std::collections::HashMap;

use bursar_seal::TokenId;
use bursar_wire::v1alpha1::describe_quotas_response::Answer;
use bursar_wire::v1alpha1::{DescribeQuotasRequest, DescribeQuotasResponse, QuotaUse, Quotas};

use super::VaultService;
use super::denial;
use super::entitlement::{Barred, Refusal};
use super::error::CallError;
use super::incarnation::Claimed;
use super::reader::Reader;
use super::unix_ms;
use super::wish::user_name;
use crate::names::{ServiceAccountName, TokenName, UserName};
use crate::quotas::{self, Concern, Stored, UsageId, Use};
use crate::rows::{Enforcement, Subject};

impl VaultService {
    pub(crate) async fn describe_quotas(
        &self,
        claimed: Claimed,
        request: DescribeQuotasRequest,
    ) -> Result<DescribeQuotasResponse, CallError> {
        let user = user_name(request.user_id)?;
        let mut connection = self.vault().pool().acquire().await?;
        let running = self.lock(&mut connection, &claimed).await?;
        let service_account = running.incarnation.service_account_name;
        let mut reader = Reader::new(&claimed.tenant, &mut connection);
        let described = describe(&mut reader, &user, &service_account).await?;
        let failures = reader.failures;
        let answer = match described {
            Ok(quotas) => Answer::Quotas(quotas),
            Err(barred) => {
                let refusal = Refusal::Forbidden(barred);
                let tenant = &claimed.tenant;
                denial::count(&mut *connection, tenant, &service_account, &refusal).await?;
                Answer::Denied(refusal.into())
            }
        };
        drop(connection);
        self.record_failures(&failures).await;
        Ok(DescribeQuotasResponse {
            answer: Some(answer),
        })
    }
}

/// Refused to who may not act as such a user, and when nobody knows whom a damaged
/// quota was about.
async fn describe(
    reader: &mut Reader<'_>,
    name: &UserName,
    service_account: &ServiceAccountName,
) -> Result<Result<Quotas, Barred>, CallError> {
    let account = match reader.account(name, service_account).await? {
        Ok(account) => account,
        Err(barred) => return Ok(Err(barred)),
    };
    let stored = Stored::read(reader.connection, reader.tenant).await?;
    let Some((quotas, _)) = reader.quotas(stored) else {
        return Ok(Err(Barred::IntegrityFailure));
    };
    let visible = account.visible.into_iter().map(|it| it.token);
    let tokens: HashMap<TokenId, TokenName> = visible.map(|it| (it.id, it.name)).collect();
    let ids: Vec<TokenId> = tokens.keys().copied().collect();
    let actor = quotas::User {
        user: account.user.uid,
        tokens: &ids,
        service_account,
    };
    let concerns = quotas::concerning(&quotas, &actor);
    let uses = quotas::uses(reader.connection, reader.tenant, &concerns).await?;
    let released = HashMap::new();
    Ok(Ok(quota_uses(&concerns, &uses, &released, name, &tokens)))
}

/// As brokers read it; `tokens` are the names of those that quotas may be about.
pub(super) fn quota_uses(
    concerns: &[Concern<'_>],
    uses: &HashMap<UsageId, Use>,
    released: &HashMap<UsageId, i64>,
    user: &UserName,
    tokens: &HashMap<TokenId, TokenName>,
) -> Quotas {
    let describe = |concern: &Concern<'_>| {
        let quota = concern.quota;
        let present = uses.get(&concern.usage).copied().unwrap_or_default();
        let period = quota.window.period();
        QuotaUse {
            name: quota.name.to_string(),
            counter: quota.counter.to_string(),
            subject: match &quota.subject {
                Subject::User(_) => format!("user/{user}"),
                Subject::Token(id) => match tokens.get(id) {
                    Some(name) => format!("token/{name}"),
                    None => "token".to_owned(),
                },
                Subject::ServiceAccount(name) => format!("serviceaccount/{name}"),
                Subject::EachUser => "each user".to_owned(),
            },
            enforced: quota.enforcement == Enforcement::Enforce,
            limit: quota.units.unsigned_abs(),
            used: present.used.unsigned_abs(),
            period_s: period.map(i64::unsigned_abs),
            window_end_time_ms: present.window_end_time.map(unix_ms),
            released: released
                .get(&concern.usage)
                .map_or(0, |units| units.unsigned_abs()),
        }
    };
    let mut quotas: Vec<QuotaUse> = concerns.iter().map(describe).collect();
    quotas.sort_by(|a, b| a.name.cmp(&b.name));
    Quotas { quotas }
}
