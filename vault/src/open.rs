//! Opening the vault, and everything that is checked before it serves.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bursar_seal::{Random, RootKeyError, RootKeyVersion, RootKeys};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection as _, PgPool};

use crate::clock::Clock;
use crate::error::{Category, DatabaseError};
use crate::vault::Vault;

/// The schema, in the folder `migrations/` of the repository.
static MIGRATIONS: sqlx::migrate::Migrator = {
    let mut migrations = sqlx::migrate!("../migrations");
    // The previous release starts on the schema of the next one, too.
    migrations.ignore_missing = true;
    migrations
};

/// How long a statement waits for a row that another transaction holds.
const LOCK_TIMEOUT: &str = "5s";
/// How long a transaction may stay open without a statement, for example
/// because its process hangs, before the database ends it and frees its locks.
const IDLE_TIMEOUT: &str = "15s";

/// How long a connection may have been idle to be used without asking first whether
/// it still works. Shorter than any restart of the database: after one, those that
/// lay in the pool meanwhile are asked.
const UNTESTED_IDLE: Duration = Duration::from_millis(100);

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
}

/// Why a vault does not open. The database URL is never repeated: it has a
/// password in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of a Postgres database.
    #[error(
        "the database URL cannot be read; it looks like postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full"
    )]
    Url,
    /// Somebody on the way could be the database.
    #[error(
        "the database URL has sslmode={found}; use sslmode=verify-full, or say --insecure-database"
    )]
    InsecureDatabase {
        /// What it has.
        found: &'static str,
    },
    /// A migration began and did not end.
    #[error(
        "migration {version} was applied by half: restore the database from before it, or finish \
         it by hand and set success = true for it in _sqlx_migrations"
    )]
    HalfApplied {
        /// The number of the migration.
        version: i64,
    },
    /// A migration was applied that has another text here.
    #[error(
        "migration {version} in the database is not the one of this release: use the release that \
         made this database, or a newer one"
    )]
    ForeignSchema {
        /// The number of the migration.
        version: i64,
    },
    /// A migration could not be applied.
    #[error("migration {version} failed and changed nothing: {source}")]
    Migration {
        /// The number of the migration.
        version: i64,
        /// Why.
        source: DatabaseError,
    },
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
            Self::Database(error) | Self::Migration { source: error, .. } => error.category(),
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
    /// Connects, brings the schema up to date, and checks the root keys against
    /// the data. Does not wait for a database that is away: the caller tries
    /// again on [`Category::Unavailable`].
    ///
    /// # Errors
    /// [`OpenError`], of which all but `Unavailable` need a person.
    pub async fn open(config: VaultConfig) -> Result<Self, OpenError> {
        let options = connect_options(&config.database_url, config.insecure_database)?;
        migrate(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
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
            .connect_with(options.options([
                ("lock_timeout", LOCK_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
                // Nothing cancels a statement: a wait ends in a commit or in a
                // lost connection, never in a commit reported as failed.
                ("statement_timeout", "0"),
                ("default_transaction_isolation", "read committed"),
            ]))
            .await?;
        check_root_keys(&pool, &config.roots).await?;
        Ok(Self::new(
            pool,
            config.roots,
            config.random,
            config.clock,
            config.cluster_id,
            config.lease,
        ))
    }
}

fn connect_options(url: &str, insecure: bool) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let found = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => return Ok(options),
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
    };
    if !insecure {
        return Err(OpenError::InsecureDatabase { found });
    }
    tracing::warn!(
        sslmode = found,
        "THE DATABASE IS NOT VERIFIED: whoever is on the way to it can read and change what the \
         vault stores; use sslmode=verify-full"
    );
    Ok(options)
}

/// Applies what is missing, one replica at a time (an advisory lock), on a
/// connection without the lock timeout: another replica may take long.
async fn migrate(options: &PgConnectOptions) -> Result<(), OpenError> {
    let mut connection = options.connect().await?;
    MIGRATIONS
        .run(&mut connection)
        .await
        .map_err(|error| match error {
            MigrateError::Dirty(version) => OpenError::HalfApplied { version },
            MigrateError::VersionMismatch(version) => OpenError::ForeignSchema { version },
            MigrateError::ExecuteMigration(error, version) => OpenError::Migration {
                version,
                source: error.into(),
            },
            MigrateError::Execute(error) => error.into(),
            other => sqlx::Error::Migrate(Box::new(other)).into(),
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
