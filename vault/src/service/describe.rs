//! Describe: metadata of a user's tokens, never a value.

use std::collections::{HashMap, HashSet};

use bursar_seal::TokenId;
use bursar_wire::v1alpha1::describe_user_response::Answer;
use bursar_wire::v1alpha1::{self, denied};

use super::VaultService;
use super::denial;
use super::entitlement::{Account, Refusal, Visible};
use super::error::CallError;
use super::incarnation::Claimed;
use super::reader::Reader;
use super::unix_ms;
use super::wish::user_name;
use crate::db_time::DbTime;
use crate::names::{Counter, ServiceAccountName};
use crate::quotas::{self, Charge, Stored, UsageId};
use crate::rows::Version;

impl VaultService {
    pub(crate) async fn describe(
        &self,
        claimed: Claimed,
        request: v1alpha1::DescribeUserRequest,
    ) -> Result<v1alpha1::DescribeUserResponse, CallError> {
        let user = user_name(request.user_id)?;
        let mut connection = self.vault().pool().acquire().await?;
        let running = self.lock(&mut connection, &claimed).await?;
        let service_account = running.incarnation.service_account_name;
        let mut reader = Reader::new(&claimed.tenant, &mut connection);
        let account = reader.account(&user, &service_account).await?;
        let described = match account {
            Ok(account) => {
                Ok(summaries(&mut reader, account, &service_account, running.now).await?)
            }
            Err(barred) => Err(Refusal::Forbidden(barred)),
        };
        let failures = reader.failures;
        if let Err(refusal) = &described {
            denial::count(&mut *connection, &claimed.tenant, &service_account, refusal).await?;
        }
        drop(connection);
        self.record_failures(&failures).await;
        Ok(v1alpha1::DescribeUserResponse {
            answer: Some(match described {
                Ok(tokens) => Answer::User(v1alpha1::UserTokens { tokens }),
                Err(refusal) => Answer::Denied(refusal.into()),
            }),
        })
    }
}

async fn summaries(
    reader: &mut Reader<'_>,
    account: Account,
    service_account: &ServiceAccountName,
    now: DbTime,
) -> Result<Vec<v1alpha1::TokenSummary>, CallError> {
    let tokens = account.visible.iter().map(|visible| &visible.token);
    let mut newest = reader.newest_versions(tokens).await?;
    let limits = Limits::read(reader, &account, service_account).await?;
    let visible = account.visible.into_iter();
    Ok(visible
        .map(|visible| {
            let version = newest.remove(&visible.token.id);
            let barred = limits.barred(visible.token.id);
            summary(visible, version, barred, now)
        })
        .collect())
}

/// What quotas say to a caller's reads of a user's tokens.
struct Limits {
    /// What a read of each token is charged to; `None` when a quota is not ours, because
    /// nobody knows then whom it was about.
    charges: Option<HashMap<TokenId, Vec<Charge>>>,
    used_up: HashSet<UsageId>,
}

impl Limits {
    async fn read(
        reader: &mut Reader<'_>,
        account: &Account,
        service_account: &ServiceAccountName,
    ) -> Result<Self, CallError> {
        let stored = Stored::read(reader.connection, reader.tenant).await?;
        let Some((quotas, _)) = reader.quotas(stored) else {
            return Ok(Self {
                charges: None,
                used_up: HashSet::new(),
            });
        };
        let accesses = Counter::accesses();
        let tokens = account.visible.iter().map(|visible| visible.token.id);
        let charges: HashMap<TokenId, Vec<Charge>> = tokens
            .map(|token| {
                let user = quotas::User {
                    user: account.user.uid,
                    tokens: &[token],
                    service_account,
                };
                let concerns = quotas::concerning_counter(&quotas, &accesses, &user);
                (token, quotas::charges(&concerns))
            })
            .collect();
        let all = charges.values().flatten();
        let used_up = quotas::used_up(reader.connection, reader.tenant, all).await?;
        Ok(Self {
            charges: Some(charges),
            used_up,
        })
    }

    /// Why none of the token's reads is served, if that is so.
    fn barred(&self, token: TokenId) -> Option<denied::Code> {
        let Some(charges) = &self.charges else {
            return Some(denied::Code::Forbidden);
        };
        let mut charges = charges.get(&token).into_iter().flatten();
        charges
            .any(|charge| self.used_up.contains(&charge.usage))
            .then_some(denied::Code::QuotaExhausted)
    }
}

fn summary(
    visible: Visible,
    newest: Option<Version>,
    barred: Option<denied::Code>,
    now: DbTime,
) -> v1alpha1::TokenSummary {
    let serving = visible.serving(newest.as_ref(), now);
    let refusal = serving.err().map(|refusal| refusal.code()).or(barred);
    let token = visible.token;
    v1alpha1::TokenSummary {
        token: token.name.to_string(),
        provider: token.provider.to_string(),
        version: token.newest_version.map_or(0, Into::into),
        version_time_ms: newest.map(|version| unix_ms(version.version_time)),
        expiration_time_ms: token.expiration_time.map(unix_ms),
        usable: refusal.is_none(),
        reason: refusal.unwrap_or(denied::Code::Unspecified).into(),
    }
}
