//! How often brokers have called the vault, as the vault has recorded it.

use std::ops::Sub;

use sqlx::{Connection, PgConnection};

/// The database does not tell.
#[derive(Debug, thiserror::Error)]
#[error("cannot count the calls that the vault has recorded: {0}")]
pub struct CallsError(#[from] sqlx::Error);

/// Calls of all brokers so far. Both kinds are numbered without gaps, and the
/// vault keeps the last number of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// Requests for an allowance.
    pub grants: i64,
    /// Reports of what was served.
    pub reports: i64,
}

impl Calls {
    /// Counts them.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn count(database_url: &str) -> Result<Self, CallsError> {
        let mut connection = PgConnection::connect(database_url).await?;
        let (grants, reports) = sqlx::query_as(
            "select coalesce(sum(last_request_no), 0)::bigint,
                    coalesce(sum(last_report_seq), 0)::bigint
             from incarnation",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(Self { grants, reports })
    }

    /// Both kinds together.
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn total(self) -> f64 {
        (self.grants + self.reports) as f64
    }
}

impl Sub for Calls {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            grants: self.grants - earlier.grants,
            reports: self.reports - earlier.reports,
        }
    }
}
