//! How the vault connects to its database.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// Why there is no trying to connect. The URL is never repeated: it has a
/// password in it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a URL of a Postgres database.
    #[error(
        "the database URL cannot be read; it looks like postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full"
    )]
    Url,
    /// Somebody on the way could be the database.
    #[error(
        "the database URL has sslmode={found}; use sslmode=verify-full, or say --insecure-database"
    )]
    Insecure {
        /// What it has.
        found: &'static str,
    },
}

pub(crate) fn connect_options(url: &str, insecure: bool) -> Result<PgConnectOptions, ConnectError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| ConnectError::Url)?;
    // The tables are there and nowhere else, whatever the role's own setting says.
    let options = options.options([("search_path", "public")]);
    let found = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => return Ok(options),
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
    };
    if !insecure {
        return Err(ConnectError::Insecure { found });
    }
    tracing::warn!(
        sslmode = found,
        "THE DATABASE IS NOT VERIFIED: whoever is on the way to it can read and change what the \
         vault stores; use sslmode=verify-full"
    );
    Ok(options)
}
