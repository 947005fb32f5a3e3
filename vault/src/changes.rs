//! The change log: what holders of allowances must hear of.
//!
//! A change is numbered within its shard and written in the transaction that
//! makes it, from a head row that stays locked until the commit: numbers commit
//! in order, and whoever has read up to one has missed nothing before it. The
//! notification only wakes readers.

use bursar_seal::{TenantId, TokenId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::quotas::UsageId;

/// The notification channel. The payload is the shard's number.
pub const CHANGE_CHANNEL: &str = "bursar_change";

/// Shards that tenants are spread over.
pub const SHARDS: i16 = 16;

/// A change of who may read what.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// Stop serving this token at once; what is still allowed is asked for anew.
    Recall(TokenId),
    /// Something newer is to be had; what is held may be served until then.
    Supersede(TokenId),
    /// The tenant was given more: forget denials.
    Widen,
    /// A window of this usage is used up: give back what is left of it.
    Return(UsageId),
}

impl Change {
    const fn kind(self) -> &'static str {
        match self {
            Self::Recall(_) => "Recall",
            Self::Supersede(_) => "Supersede",
            Self::Widen => "Widen",
            Self::Return(_) => "Return",
        }
    }

    const fn token(self) -> Option<TokenId> {
        match self {
            Self::Recall(token) | Self::Supersede(token) => Some(token),
            Self::Widen | Self::Return(_) => None,
        }
    }

    const fn usage(self) -> Option<UsageId> {
        match self {
            Self::Return(usage) => Some(usage),
            Self::Recall(_) | Self::Supersede(_) | Self::Widen => None,
        }
    }

    fn read(kind: &str, token: Option<Uuid>, usage: Option<Uuid>) -> Option<Self> {
        match (kind, token, usage) {
            ("Recall", Some(token), _) => Some(Self::Recall(token.into())),
            ("Supersede", Some(token), _) => Some(Self::Supersede(token.into())),
            ("Widen", ..) => Some(Self::Widen),
            ("Return", _, Some(usage)) => Some(Self::Return(usage.into())),
            _ => None,
        }
    }
}

/// A change as it stands in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Numbered {
    /// Its number within the shard.
    pub seq: i64,
    /// Where.
    pub tenant: TenantId,
    /// What; `None` for a kind that only a newer release knows, which is read
    /// as "forget all you know of this tenant".
    pub change: Option<Change>,
}

/// The shard of a tenant, fixed when the tenant is made.
#[must_use]
pub(crate) fn shard_of(tenant: TenantId) -> i16 {
    // Lossless: the remainder is below 16.
    (tenant.as_uuid().as_u128() % 16) as i16
}

/// Appends changes of one tenant, in order. The last statement before the
/// commit: from here on the whole shard waits.
pub(crate) async fn append(
    transaction: &mut PgConnection,
    shard: i16,
    tenant: TenantId,
    changes: &[Change],
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = changes
        .iter()
        .map(|change| change.kind().to_owned())
        .collect();
    let tokens: Vec<Option<Uuid>> = changes
        .iter()
        .map(|change| change.token().map(TokenId::as_uuid))
        .collect();
    let usages: Vec<Option<Uuid>> = changes
        .iter()
        .map(|change| change.usage().map(UsageId::as_uuid))
        .collect();
    sqlx::query!(
        r#"with head as (
               update change_head set seq = seq + cardinality($3::text[])
               where shard = $1 returning seq
           ), added as (
               insert into change (shard, seq, tenant_id, kind, token_id, usage_id)
               select $1, head.seq - cardinality($3::text[]) + item.place, $2, item.kind,
                      item.token, item.usage
               from head, unnest($3::text[], $4::uuid[], $5::uuid[])
                    with ordinality as item (kind, token, usage, place)
           )
           select pg_notify('bursar_change', $1::text) from head"#,
        shard,
        tenant.as_uuid(),
        &kinds,
        &tokens as &[Option<Uuid>],
        &usages as &[Option<Uuid>],
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// A recall of every token of a tenant.
pub(crate) async fn recall_all(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<Vec<Change>, sqlx::Error> {
    let tokens = sqlx::query_scalar!(
        "select token_id from token
         where tenant_id = $1 and deleted_time is null order by token_id",
        tenant.as_uuid(),
    )
    .fetch_all(connection)
    .await?;
    let recalls = tokens.into_iter().map(|token| Change::Recall(token.into()));
    Ok(recalls.collect())
}

/// The newest number of each shard.
///
/// # Errors
/// When the database is away or refuses.
pub async fn heads(connection: impl PgExecutor<'_>) -> Result<Vec<(i16, i64)>, sqlx::Error> {
    let rows = sqlx::query!("select shard, seq from change_head order by shard")
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.shard, row.seq)).collect())
}

/// At most `limit` changes of a shard behind number `after`, in order.
///
/// # Errors
/// When the database is away or refuses.
pub async fn read_after(
    connection: impl PgExecutor<'_>,
    shard: i16,
    after: i64,
    limit: i64,
) -> Result<Vec<Numbered>, sqlx::Error> {
    let rows = sqlx::query!(
        "select seq, tenant_id, kind, token_id, usage_id from change
         where shard = $1 and seq > $2 order by seq limit $3",
        shard,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Numbered {
            seq: row.seq,
            tenant: row.tenant_id.into(),
            change: Change::read(&row.kind, row.token_id, row.usage_id),
        })
        .collect())
}
