//! Opening the vault, and everything that is checked before it serves.

use std::sync::Arc;
use std::time::Duration;

use bursar_seal::{Random, RootKeyError, RootKeyVersion, RootKeys};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, Connection as _, PgPool};

use crate::clock::Clock;
use crate::connect::{ConnectError, connect_options};
use crate::error::{Category, DatabaseError};
use crate::schema::{self, SchemaError};
use crate::vault::Vault;

/// How long a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "5s";
/// How long a transaction may stay open without a statement, for example
/// because its process hangs, before the database ends it and frees its locks.
const IDLE_TIMEOUT: &str = "15s";

/// How long a connection may have been idle to be used without asking first whether
/// it still works. Shorter than any restart of the database: after one, those that
/// lay in the pool meanwhile are asked.
const UNTESTED_IDLE: Duration = Duration::from_millis(100);
/// What [`VaultConfig::query_limit`] is in a cluster.
pub const QUERY_LIMIT: Duration = Duration::from_secs(30);
/// For what people read, beside those for all else: four queries and two verifications.
const READING_CONNECTIONS: u32 = 6;

/// What a vault is opened with.
pub struct VaultConfig {
    /// `postgres://...`, with `sslmode=verify-full` and `sslrootcert` or the CA
    /// of the system.
    pub database_url: String,
    /// Accept any `sslmode`.
    pub insecure_database: bool,
    /// At most so many connections to the database.
    pub max_connections: u32,
    /// The cluster whose namespaces are tenants; part of each tenant's row.
    pub cluster_id: String,
    /// All root keys.
    pub roots: RootKeys,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How long a broker may serve without hearing from the vault.
    pub lease: Duration,
    /// How long a query of a person may read: one that takes longer is given up, nothing
    /// was told then, and nothing is on record.
    pub query_limit: Duration,
}

/// Why a vault does not open. The database URL is never repeated: it has a
/// password in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its schema is none to work on.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A wrong or missing root key.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// A root key version in the database that cannot be one.
    #[error("the table root_key has a row of version {version}, which is no version; restore it")]
    RootKeyVersion {
        /// What is there.
        version: i32,
    },
    /// The database did not answer as it should.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl OpenError {
    /// What kind of trouble this is; `Unavailable` is worth another try.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Schema(error) => error.category(),
            Self::Database(error) => error.category(),
            _ => Category::Misconfigured,
        }
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Vault {
    /// Connects, and checks the schema and the root keys against the data. Does
    /// not wait for a database that is away or not migrated: the caller tries
    /// again on [`Category::Unavailable`].
    ///
    /// # Errors
    /// [`OpenError`], of which all but `Unavailable` need a person.
    pub async fn open(config: VaultConfig) -> Result<Self, OpenError> {
        let options = connect_options(&config.database_url, config.insecure_database)?;
        let mut connection = options.connect().await?;
        schema::check(&mut connection).await?;
        if schema::may_edit_audit(&mut connection).await? {
            tracing::warn!(
                "the database role may edit the audit: it owns the tables, is a superuser, or was \
                 granted too much; use the role that `bursar-operator migrate` was given as \
                 --runtime-role"
            );
        }
        connection.close().await?;
        let options = options.options([
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
            // Nothing cancels a write: a wait ends in a commit or in a lost
            // connection, never in a commit reported as failed.
            ("statement_timeout", "0"),
            ("default_transaction_isolation", "read committed"),
        ]);
        // Made when somebody first reads.
        let reading_pool = pool_of(READING_CONNECTIONS).connect_lazy_with(options.clone());
        let pool = pool_of(config.max_connections)
            .connect_with(options)
            .await?;
        check_root_keys(&pool, &config.roots).await?;
        Ok(Self::new(pool, reading_pool, config))
    }
}

fn pool_of(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        // A connection that was just used need not be asked whether it still works,
        // which takes a round trip; one that does not fails a call, to be repeated.
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if metadata.idle_for > UNTESTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Each key must be the one its version had before; a version seen for the
/// first time is recorded; a version in use must not be missing.
async fn check_root_keys(pool: &PgPool, roots: &RootKeys) -> Result<(), OpenError> {
    for version in roots.versions() {
        let ours = roots.check_value(version)?;
        sqlx::query!(
            "insert into root_key (root_version, check_value) values ($1, $2)
             on conflict do nothing",
            i32::from(version),
            ours,
        )
        .execute(pool)
        .await?;
        let stored = sqlx::query_scalar!(
            "select check_value from root_key where root_version = $1",
            i32::from(version),
        )
        .fetch_one(pool)
        .await?;
        roots.verify_check_value(version, &stored)?;
    }
    let used = sqlx::query_scalar!("select distinct root_version from tenant_key order by 1")
        .fetch_all(pool)
        .await?;
    for version in used {
        let version =
            RootKeyVersion::try_from(version).map_err(|_| OpenError::RootKeyVersion { version })?;
        roots.check_value(version)?;
    }
    Ok(())
}
