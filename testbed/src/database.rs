//! Databases on the testbed's Postgres server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sqlx::migrate::MigrateError;
use sqlx::{Connection, PgConnection};

use crate::random::{RandomError, password, suffix};
use crate::template::run;

/// Why a database could not be reached or made.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The server did not do what it was asked.
    #[error("database {database}: {source}")]
    Sql {
        /// The database.
        database: String,
        /// What the server or the connection said.
        source: sqlx::Error,
    },
    /// A migration of the repository failed.
    #[error("database {database}: {source}")]
    Migrate {
        /// The database.
        database: String,
        /// Which migration, and what the server said.
        source: MigrateError,
    },
    /// There is no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Where the server is and how to be its superuser.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// The TCP port on 127.0.0.1.
    pub port: u16,
    /// The password of the superuser `postgres`.
    pub password: String,
    /// The file (PEM) with the authority that signed the server's certificate.
    pub authority: PathBuf,
}

/// A database of one's own.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name, which is also the name of its owner.
    pub name: String,
    /// The URL for the superuser.
    pub superuser_url: String,
    /// The URL for the role that owns this database and may do nothing elsewhere.
    pub owner_url: String,
    /// The role that the vault connects as: it may do what the migrations grant it.
    pub runtime_role: String,
    /// The URL for that role.
    pub runtime_url: String,
}

impl Server {
    /// The superuser's URL of the database `name`, with `sslmode=verify-full`.
    pub fn superuser_url(&self, name: &str) -> String {
        self.url("postgres", &self.password, name)
    }

    /// Makes a database named after `hint` with a random suffix, as a release leaves it
    /// that was just installed: migrated, all of it its owner's, for the role of the vault.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn create_database(&self, hint: &str) -> Result<Database, DatabaseError> {
        let mut connection = self.connect("postgres").await?;
        let template = self.template(&mut connection).await?;
        let database = self.create_from(&template, hint, &mut connection).await?;
        let name = &database.name;
        let mut inside = self.connect(name).await?;
        for statement in [
            format!("REASSIGN OWNED BY \"{template}\" TO \"{name}\""),
            format!("SET ROLE \"{name}\""),
        ] {
            run(&mut inside, name, statement).await?;
        }
        sqlx::query("select grant_runtime($1::text::name)")
            .bind(&database.runtime_role)
            .execute(&mut inside)
            .await
            .map_err(in_database(name))?;
        Ok(database)
    }

    /// The same without any tables, with the two roles.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub async fn create_empty_database(&self, hint: &str) -> Result<Database, DatabaseError> {
        let mut connection = self.connect("postgres").await?;
        self.create_from("template1", hint, &mut connection).await
    }

    async fn create_from(
        &self,
        template: &str,
        hint: &str,
        connection: &mut PgConnection,
    ) -> Result<Database, DatabaseError> {
        let name = format!("{}_{}", identifier(hint), suffix()?);
        let runtime_role = format!("{name}_run");
        let (secret, runtime_secret) = (password()?, password()?);
        for statement in [
            format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{secret}'"),
            format!("CREATE ROLE \"{runtime_role}\" LOGIN PASSWORD '{runtime_secret}'"),
            format!("CREATE DATABASE \"{name}\" OWNER \"{name}\" TEMPLATE \"{template}\""),
        ] {
            run(connection, &name, statement).await?;
        }
        Ok(Database {
            superuser_url: self.superuser_url(&name),
            owner_url: self.url(&name, &secret, &name),
            runtime_url: self.url(&runtime_role, &runtime_secret, &name),
            runtime_role,
            name,
        })
    }

    pub(crate) async fn connect(&self, name: &str) -> Result<PgConnection, DatabaseError> {
        PgConnection::connect(&self.superuser_url(name))
            .await
            .map_err(in_database(name))
    }

    fn url(&self, role: &str, password: &str, name: &str) -> String {
        format!(
            "postgres://{role}:{password}@127.0.0.1:{}/{name}?sslmode=verify-full&sslrootcert={}",
            self.port,
            self.authority.display()
        )
    }
}

/// Letters, digits and underscores, at most 50: Postgres cuts names after 63 bytes.
fn identifier(hint: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric();
    hint.chars()
        .take(50)
        .map(|letter| {
            if allowed(letter) {
                letter.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect()
}

pub(crate) fn in_database(name: &str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    let database = name.to_owned();
    move |source| DatabaseError::Sql { database, source }
}
