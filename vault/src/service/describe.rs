//! Describe: metadata of a user's tokens, never a value.

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
            Ok(account) => Ok(summaries(&mut reader, account, running.now).await?),
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
    now: DbTime,
) -> Result<Vec<v1alpha1::TokenSummary>, CallError> {
    let tokens = account.visible.iter().map(|visible| &visible.token);
    let mut newest = reader.newest_versions(tokens).await?;
    let visible = account.visible.into_iter();
    Ok(visible
        .map(|visible| {
            let version = newest.remove(&visible.token.id);
            summary(visible, version, now)
        })
        .collect())
}

fn summary(visible: Visible, newest: Option<Version>, now: DbTime) -> v1alpha1::TokenSummary {
    let serving = visible.serving(newest.as_ref(), now);
    let token = visible.token;
    v1alpha1::TokenSummary {
        token: token.name.to_string(),
        provider: token.provider.to_string(),
        version: token.newest_version.map_or(0, Into::into),
        version_time_ms: newest.map(|version| unix_ms(version.version_time)),
        expiration_time_ms: token.expiration_time.map(unix_ms),
        usable: serving.is_ok(),
        reason: serving
            .err()
            .map_or(denied::Code::Unspecified, |refusal| refusal.code())
            .into(),
    }
}
