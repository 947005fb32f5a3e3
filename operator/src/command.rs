//! What `bursar-operator` is asked to do: to run, or to migrate its database.

use std::ffi::OsString;

use bursar_vault::Migration;
use clap::{Args, CommandFactory, FromArgMatches};

use crate::config::Config;

/// What the program is asked to do.
pub enum Command {
    /// Run the operator.
    Run(Box<Config>),
    /// Migrate the database, and end.
    Migrate(Migrate),
}

/// Bring the database up to this release, as the owner of its tables
///
/// To be run before the operator of this release starts; the operator of the release before
/// goes on meanwhile. It may be repeated.
// No Debug: the database URL has a password in it.
#[derive(Args)]
pub struct Migrate {
    /// Postgres as the owner of the tables, as postgres://OWNER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
    #[arg(long, env = "BURSAR_DATABASE_URL", hide_env_values = true)]
    database_url: String,

    /// Accept a database connection that is not verified by TLS: for trials only
    #[arg(long, env = "BURSAR_INSECURE_DATABASE")]
    insecure_database: bool,

    /// The role that the operator connects as, which is granted what it needs
    #[arg(long, env = "BURSAR_RUNTIME_ROLE", value_name = "ROLE")]
    runtime_role: String,

    /// How long accesses stay on record, in days; the operator deletes what is older
    #[arg(
        long,
        env = "BURSAR_AUDIT_RETENTION_DAYS",
        default_value_t = 90,
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    audit_retention_days: u16,
}

impl Command {
    /// From the program's arguments and environment; ends the program when they are wrong or ask
    /// for help.
    #[must_use]
    pub fn parse() -> Self {
        Self::try_parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn try_parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let migrate = Migrate::augment_args(clap::Command::new("migrate"));
        let matches = Config::command()
            .subcommand(migrate)
            .subcommand_negates_reqs(true)
            .try_get_matches_from(arguments)?;
        match matches.subcommand() {
            Some((_, migrate)) => Migrate::from_arg_matches(migrate).map(Self::Migrate),
            None => Config::from_arg_matches(&matches).map(|config| Self::Run(Box::new(config))),
        }
    }
}

impl From<Migrate> for Migration {
    fn from(arguments: Migrate) -> Self {
        Self {
            database_url: arguments.database_url,
            insecure_database: arguments.insecure_database,
            runtime_role: arguments.runtime_role,
            audit_retention_days: arguments.audit_retention_days,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn without_a_subcommand_it_runs_the_operator_and_wants_its_settings() {
        assert!(Command::try_parse_from(["bursar-operator"]).is_err());
        let run = ["bursar-operator", "--database-url=d", "--root-key-dir=/k"];
        assert!(matches!(Command::try_parse_from(run), Ok(Command::Run(_))));
    }

    #[test]
    fn migrating_needs_no_root_key_but_the_name_of_the_operators_role() {
        let migrate = ["bursar-operator", "migrate", "--database-url=d"];
        assert!(Command::try_parse_from(migrate).is_err());
        let with_role = migrate.iter().copied().chain(["--runtime-role=bursar"]);
        let Ok(Command::Migrate(migrate)) = Command::try_parse_from(with_role) else {
            panic!("it was not understood");
        };
        assert_eq!(migrate.runtime_role, "bursar");
    }
}
