//! Which tokens were used.

use bursar_seal::TokenId;

use crate::db_time::{DbTime, db_now};
use crate::error::VaultError;
use crate::vault::Vault;

/// The last use of a token that was recorded in some time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenUse {
    /// Which token.
    pub token: TokenId,
    /// When it was recorded: what its broker says of the time is a claim, and late by moments.
    pub time: DbTime,
    /// The service account of the pod that used it.
    pub service_account_name: String,
}

impl Vault {
    /// The last use of each token of all tenants that has a record after `after`, and the
    /// database's time before it was looked for. One query for all of them, over the records of
    /// that time alone; like all records, they are for people to read and decide nothing.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn token_uses(&self, after: DbTime) -> Result<(Vec<TokenUse>, DbTime), VaultError> {
        let mut connection = self.pool().acquire().await?;
        let now = db_now(&mut connection).await?;
        let rows = sqlx::query!(
            r#"select distinct on (token_id) token_id as "token_id!", service_account_name,
                      recorded_time as "time!: DbTime"
               from access_record
               where recorded_time > $1 and outcome = 'Served' and token_id is not null
               order by token_id, recorded_time desc"#,
            after as _,
        )
        .fetch_all(&mut *connection)
        .await?;
        let uses = rows.into_iter().map(|row| TokenUse {
            token: row.token_id.into(),
            time: row.time,
            service_account_name: row.service_account_name,
        });
        Ok((uses.collect(), now))
    }
}
