//! The schema that this release works on, and whether a database has it.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{PgConnection, Row};

use crate::error::{Category, DatabaseError};

/// The schema, in the folder `migrations/` of the repository.
pub(crate) static MIGRATIONS: Migrator = {
    let mut migrations = sqlx::migrate!("../migrations");
    // The previous release starts on the schema of the next one, too.
    migrations.ignore_missing = true;
    migrations
};

/// Why the schema of a database is none to work on.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Nobody migrated it, or not to this release.
    #[error(
        "the database has not the schema of this release ({found}): as the owner of the tables \
         run `BURSAR_DATABASE_URL=OWNER_URL bursar-operator migrate --runtime-role {role}`"
    )]
    Old {
        /// How far it is.
        found: String,
        /// The role that asked.
        role: String,
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
    Foreign {
        /// The number of the migration.
        version: i64,
    },
    /// The database did not answer as it should.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl SchemaError {
    /// What kind of trouble this is; `Unavailable` is worth another try.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Old { .. } => Category::Unavailable,
            Self::HalfApplied { .. } | Self::Foreign { .. } => Category::Misconfigured,
            Self::Database(error) => error.category(),
        }
    }
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<MigrateError> for SchemaError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Dirty(version) => Self::HalfApplied { version },
            MigrateError::VersionMismatch(version) => Self::Foreign { version },
            MigrateError::Execute(error) => error.into(),
            other => sqlx::Error::Migrate(Box::new(other)).into(),
        }
    }
}

/// Whether all migrations of this release were applied, and this role may see that.
pub(crate) async fn check(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let row = sqlx::query(
        "select current_user::text, t is not null,
                coalesce(has_table_privilege(t, 'select'), false)
         from to_regclass('public._sqlx_migrations') as t",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (role, there, readable): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
    let old = |found: &str| SchemaError::Old {
        found: found.to_owned(),
        role: role.clone(),
    };
    if !there {
        return Err(old("it has none"));
    }
    if !readable {
        return Err(old("this role was granted nothing"));
    }
    let table = &MIGRATIONS.table_name;
    if let Some(version) = connection.dirty_version(table).await? {
        return Err(SchemaError::HalfApplied { version });
    }
    let applied = connection.list_applied_migrations(table).await?;
    for ours in MIGRATIONS.iter() {
        match applied.iter().find(|theirs| theirs.version == ours.version) {
            None => return Err(old(&format!("migration {} is missing", ours.version))),
            Some(theirs) if theirs.checksum != ours.checksum => {
                return Err(SchemaError::Foreign {
                    version: ours.version,
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether this role may change or remove what the audit recorded, or could give itself the
/// right.
pub(crate) async fn may_edit_audit(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select bool_or(
             pg_has_role(relowner, 'member')
             or has_table_privilege(oid, 'delete, truncate')
             or case when oid = 'public.audit_chain'::regclass
                     then has_column_privilege(oid, 'boundary_no', 'insert, update')
                          or has_column_privilege(oid, 'boundary_mac', 'insert, update')
                     else has_any_column_privilege(oid, 'update') end)
         from pg_class
         where oid in ('public.access_record'::regclass, 'public.audit_chain'::regclass,
                       'public.checkpoint'::regclass, 'public.checkpoint_head'::regclass)",
    )
    .fetch_one(connection)
    .await
}
