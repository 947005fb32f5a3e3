//! Rows that look deleted: read only to see whether it was us who deleted them.
//!
//! Whoever writes the database can make a row look deleted, which denies and
//! nothing more; but it shall not go unnoticed. This is read when a name was not
//! found, and has no index to help it.

use sqlx::PgConnection;

use crate::db_time::DbTime;
use crate::names::{TokenName, UserName};
use crate::rows::{TokenRow, UserRow};
use crate::tenant::Tenant;

/// The user who had this name last.
pub(crate) async fn user(
    connection: &mut PgConnection,
    tenant: &Tenant,
    name: &UserName,
) -> Result<Option<UserRow>, sqlx::Error> {
    sqlx::query_as!(
        UserRow,
        r#"select tenant_id, user_uid, name, email, role, suspended, epoch,
                  deleted_time as "deleted_time: DbTime", key_version, mac
           from token_user
           where tenant_id = $1 and name = $2 and deleted_time is not null
           order by deleted_time desc limit 1"#,
        tenant.uuid(),
        name.as_str(),
    )
    .fetch_optional(connection)
    .await
}

/// The token that had this name last.
pub(crate) async fn token(
    connection: &mut PgConnection,
    tenant: &Tenant,
    name: &TokenName,
) -> Result<Option<TokenRow>, sqlx::Error> {
    sqlx::query_as!(
        TokenRow,
        r#"select tenant_id, token_id, name, user_uid, provider,
                  expiration_time as "expiration_time: DbTime", narrowed, through_version,
                  api_through_version, newest_version, deletion_policy, epoch,
                  deleted_time as "deleted_time: DbTime", key_version, mac
           from token
           where tenant_id = $1 and name = $2 and deleted_time is not null
           order by deleted_time desc limit 1"#,
        tenant.uuid(),
        name.as_str(),
    )
    .fetch_optional(connection)
    .await
}
