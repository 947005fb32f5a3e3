//! The migrated database that others are copies of: migrating takes many times as long
//! as copying.

use std::hash::{DefaultHasher, Hash, Hasher};

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::{DatabaseError, Server, in_database};

/// The vault's own: tests get a database as `bursar-operator migrate` leaves it.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Held while a template is made, so that of many tests that want one at once one makes it.
const LOCK: i64 = 0x6275_7273_6172;

/// The template of the server, and the role that owns what is in it: both have this name.
/// It tells what was migrated, as programs of different builds may share a server, and on
/// which day, for there are partitions from that day on.
fn template(day: &str) -> String {
    let mut hasher = DefaultHasher::new();
    for migration in MIGRATIONS.iter() {
        migration.checksum.hash(&mut hasher);
    }
    format!("migrated_{day}_{:016x}", hasher.finish())
}

impl Server {
    /// The name of a migrated database, which is made by whoever asks first.
    pub(crate) async fn template(
        &self,
        connection: &mut PgConnection,
    ) -> Result<String, DatabaseError> {
        let mut transaction = connection.begin().await.map_err(in_database("postgres"))?;
        // Ends with the transaction, also when this process ends.
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *transaction)
            .await
            .map_err(in_database("postgres"))?;
        let day: String =
            sqlx::query_scalar("select to_char(now() at time zone 'UTC', 'YYYYMMDD')")
                .fetch_one(&mut *transaction)
                .await
                .map_err(in_database("postgres"))?;
        let name = template(&day);
        let is_made: bool = sqlx::query_scalar(
            "select exists (select from pg_database where datname = $1 and datistemplate)",
        )
        .bind(&name)
        .fetch_one(&mut *transaction)
        .await
        .map_err(in_database(&name))?;
        if !is_made {
            self.make_template(&name).await?;
        }
        transaction
            .commit()
            .await
            .map_err(in_database("postgres"))?;
        Ok(name)
    }

    async fn make_template(&self, name: &str) -> Result<(), DatabaseError> {
        let mut server = self.connect("postgres").await?;
        for statement in [
            // Left half made by a process that was killed.
            format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
            format!("DROP ROLE IF EXISTS \"{name}\""),
            format!("CREATE ROLE \"{name}\""),
            format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""),
        ] {
            run(&mut server, name, statement).await?;
        }
        let mut inside = self.connect(name).await?;
        run(&mut inside, name, format!("SET ROLE \"{name}\"")).await?;
        let migrated = MIGRATIONS.run(&mut inside).await;
        migrated.map_err(|source| DatabaseError::Migrate {
            database: name.to_owned(),
            source,
        })?;
        // Nobody may be connected to what is copied.
        inside.close().await.map_err(in_database(name))?;
        for statement in [
            // So that the copies' owners take over what its role owns in them, but not itself.
            format!("ALTER DATABASE \"{name}\" OWNER TO postgres"),
            format!("ALTER DATABASE \"{name}\" IS_TEMPLATE true"),
        ] {
            run(&mut server, name, statement).await?;
        }
        Ok(())
    }
}

/// Runs a statement with names in it, which cannot be bound as parameters; an identifier
/// has no quotes in it.
pub(crate) async fn run(
    connection: &mut PgConnection,
    database: &str,
    statement: String,
) -> Result<(), DatabaseError> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map_err(in_database(database))?;
    Ok(())
}
