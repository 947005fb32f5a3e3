//! What is kept outside the database, so that an older state of it is noticed.

use aws_lc_rs::digest::{Context, SHA256};
use futures::TryStreamExt;
use sqlx::PgConnection;

use crate::db_time::DbTime;
use crate::error::VaultError;
use crate::vault::Vault;

/// One hash over the newest checkpoints of all tenants at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Anchor {
    /// The time of the newest checkpoint that it covers, by the database's clock.
    pub checkpoint_time: DbTime,
    /// SHA-256 over tenant id, checkpoint number (big-endian) and MAC of each
    /// tenant's newest checkpoint up to that time, in the order of tenant ids.
    pub sha256: [u8; 32],
}

impl Vault {
    /// Whether the checkpoints of the database are those that an anchor binds.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn has_anchor(&self, anchor: &Anchor) -> Result<bool, VaultError> {
        let mut connection = self.pool().acquire().await?;
        Ok(Anchor::at(&mut connection, anchor.checkpoint_time).await? == *anchor)
    }
}

impl Anchor {
    /// Of the newest checkpoints up to a time.
    pub(crate) async fn at(
        connection: &mut PgConnection,
        time: DbTime,
    ) -> Result<Self, sqlx::Error> {
        let mut hash = Context::new(&SHA256);
        let mut rows = sqlx::query!(
            "select c.tenant_id, c.checkpoint_no, c.mac from tenant t
             cross join lateral (
                 select tenant_id, checkpoint_no, mac from checkpoint
                 where tenant_id = t.tenant_id and checkpoint_time <= $1
                 order by checkpoint_no desc limit 1
             ) as c
             order by c.tenant_id",
            time as DbTime,
        )
        .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            hash.update(row.tenant_id.as_bytes());
            hash.update(&row.checkpoint_no.to_be_bytes());
            hash.update(&row.mac);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.finish().as_ref());
        Ok(Self {
            checkpoint_time: time,
            sha256,
        })
    }
}
