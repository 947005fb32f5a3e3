//! Bringing a database up to this release, as the owner of the tables.

use sqlx::migrate::{Migrate, MigrateError as SqlxMigrateError};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::connect::{ConnectError, connect_options};
use crate::error::DatabaseError;
use crate::schema::{MIGRATIONS, SchemaError};

/// What a database is migrated with.
pub struct Migration {
    /// The URL of the role that owns the tables, or that is to own them.
    pub database_url: String,
    /// Accept any `sslmode`.
    pub insecure_database: bool,
    /// The role that the operator connects as.
    pub runtime_role: String,
    /// How long records of the audit are kept, in days of UTC; at least 1.
    pub audit_retention_days: u16,
}

/// Why a database was not migrated. What was applied before stays.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Its schema is none to go on from.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A migration could not be applied.
    #[error("migration {version} failed and changed nothing: {source}")]
    Migration {
        /// The number of the migration.
        version: i64,
        /// Why.
        source: DatabaseError,
    },
    /// The operator's role is not there.
    #[error(
        "the database server has no role {role}: make it first, as by \
         `create role {role} login password '...'`"
    )]
    NoRole {
        /// Its name.
        role: String,
    },
    /// The operator's own role was to migrate.
    #[error(
        "the database URL is that of role {role}, the operator's: migrate as the role that owns \
         the tables, which must be another"
    )]
    NotOwner {
        /// The operator's role.
        role: String,
    },
    /// The operator's role could do what only the owner may.
    #[error(
        "role {role} is a superuser or has the rights of role {owner}, which owns the tables: \
         make another role for the operator, which is in no group"
    )]
    SameRole {
        /// The operator's.
        role: String,
        /// The owner.
        owner: String,
    },
    /// The database did not answer as it should.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Applies what is missing and grants the operator's role its rights; returns the
/// numbers of the migrations that were missing. It may be repeated, and run while
/// the previous release serves. One at a time: an advisory lock.
///
/// # Errors
/// [`MigrateError`]; all need a person, but a database that is away.
pub async fn migrate(migration: &Migration) -> Result<Vec<i64>, MigrateError> {
    let options = connect_options(&migration.database_url, migration.insecure_database)?;
    // Without a limit on waiting for locks: another one may take long.
    let mut connection = options.connect().await?;
    connection.lock().await.map_err(SchemaError::from)?;
    check_role(&mut connection, &migration.runtime_role).await?;
    let before = applied(&mut connection).await?;
    MIGRATIONS
        .run(&mut connection)
        .await
        .map_err(|error| match error {
            SqlxMigrateError::ExecuteMigration(error, version) => MigrateError::Migration {
                version,
                source: error.into(),
            },
            other => SchemaError::from(other).into(),
        })?;
    sqlx::query!(
        "select grant_runtime($1::text::name)",
        migration.runtime_role
    )
    .execute(&mut connection)
    .await?;
    sqlx::query!(
        "update audit_retention set days = $1 where days <> $1",
        i32::from(migration.audit_retention_days),
    )
    .execute(&mut connection)
    .await?;
    sqlx::query!("select create_audit_partitions()")
        .execute(&mut connection)
        .await?;
    // The lock goes with the connection.
    connection.close().await?;
    let missing = MIGRATIONS.iter().map(|migration| migration.version);
    Ok(missing
        .filter(|version| !before.contains(version))
        .collect())
}

async fn check_role(connection: &mut PgConnection, role: &str) -> Result<(), MigrateError> {
    let found = sqlx::query!(
        r#"select current_user::text as "owner!",
                  pg_has_role(oid, current_user::text, 'member') as "same!"
           from pg_roles where rolname = $1"#,
        role,
    )
    .fetch_optional(connection)
    .await?;
    match found {
        None => Err(MigrateError::NoRole {
            role: role.to_owned(),
        }),
        Some(found) if found.owner == role => Err(MigrateError::NotOwner {
            role: role.to_owned(),
        }),
        Some(found) if found.same => Err(MigrateError::SameRole {
            role: role.to_owned(),
            owner: found.owner,
        }),
        Some(_) => Ok(()),
    }
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, SchemaError> {
    connection
        .ensure_migrations_table(&MIGRATIONS.table_name)
        .await?;
    let applied = connection
        .list_applied_migrations(&MIGRATIONS.table_name)
        .await?;
    Ok(applied
        .into_iter()
        .map(|migration| migration.version)
        .collect())
}
