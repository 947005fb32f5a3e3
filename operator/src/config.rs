//! What the operator is told on its command line or in its environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::log::{LogFormat, LogLevel};

/// Reconciles TokenUsers, StoredTokens and TokenQuotas into the vault, and serves the vault to brokers.
///
/// Which Kubernetes API it works on is taken from `KUBECONFIG`, or from the
/// service account of the pod it runs in.
// No Debug: the database URL has a password in it.
#[derive(Clone, Parser)]
#[command(name = "bursar-operator", version)]
pub struct Config {
    /// Postgres, as postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE
    #[arg(long, env = "BURSAR_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// Accept a database connection that is not verified by TLS: for trials only
    #[arg(long, env = "BURSAR_INSECURE_DATABASE")]
    pub insecure_database: bool,

    /// Folder with the root keys: files named 1, 2, ... of 32 bytes each
    #[arg(long, env = "BURSAR_ROOT_KEY_DIR", value_name = "FOLDER")]
    pub root_key_dir: PathBuf,

    /// Where the vault listens for brokers (gRPC over TLS 1.3)
    #[arg(long, env = "BURSAR_LISTEN", default_value = "0.0.0.0:9443")]
    pub listen: SocketAddr,

    /// Where people's queries are answered (HTTPS, TLS 1.3)
    #[arg(long, env = "BURSAR_PEOPLE_LISTEN", default_value = "0.0.0.0:9444")]
    pub people_listen: SocketAddr,

    /// Where /healthz, /readyz and /metrics are served (HTTP)
    #[arg(long, env = "BURSAR_METRICS_LISTEN", default_value = "0.0.0.0:9445")]
    pub metrics_listen: SocketAddr,

    /// Namespace with Bursar's own Secrets
    #[arg(long, env = "BURSAR_NAMESPACE", default_value = "bursar-system")]
    pub namespace: String,

    /// DNS name that brokers verify the vault's certificate for
    #[arg(
        long,
        env = "BURSAR_VAULT_NAME",
        default_value = "bursar-vault.bursar-system.svc"
    )]
    pub vault_name: String,

    /// Name of this cluster in the vault [default: the UID of namespace kube-system]
    #[arg(long, env = "BURSAR_CLUSTER_ID")]
    pub cluster_id: Option<String>,

    /// Serve the vault only: reconcile nothing
    #[arg(long, env = "BURSAR_NO_CONTROLLERS")]
    pub no_controllers: bool,

    /// How long a broker may serve without asking again, in seconds
    #[arg(
        long,
        env = "BURSAR_LEASE_SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(15..=900)
    )]
    pub lease_seconds: u64,

    /// The least severe messages to log
    #[arg(long, env = "BURSAR_LOG_LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// How to write a log line
    #[arg(long, env = "BURSAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// The operator's own rhythm; not to be set from outside but by tests.
    #[arg(skip)]
    pub timing: Timing,
}

/// How often the operator looks again at what it is not told of.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two questions whether a namespace is onboarded: by now, or still.
    pub onboarding_check: Duration,
    /// Between two looks at the database: whether it answers, and what its clock says.
    pub database_check: Duration,
    /// Between two looks at the log of changes, for tokens that were recalled beside their spec.
    pub recall_check: Duration,
    /// Between two readings of the API server's token signing keys.
    pub issuer_refresh: Duration,
    /// Between two looks at how much of a quota is used. Nobody tells the operator of a use, and
    /// the limit holds without it: a status that lags by half a minute costs a few reads of the
    /// database for each quota, a faster one only more of them.
    pub quota_check: Duration,
    /// Between two looks at which tokens were used.
    pub use_check: Duration,
    /// Between two checkpoints of the audit, at least: what is cut from it in between, and the
    /// heads of its chains set back, is not noticed.
    pub audit_checkpoint: Duration,
    /// When an attempt at them is given up: a connection that only seems to be there would
    /// otherwise be the end of them.
    pub audit_checkpoint_limit: Duration,
    /// Between two looks for records behind the retention: they are dropped by whole days.
    pub retention_check: Duration,
    /// The first pause after an object failed; doubled by each further failure.
    pub first_retry: Duration,
    /// The longest pause between two attempts at one object.
    pub longest_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            onboarding_check: Duration::from_secs(30),
            database_check: Duration::from_secs(2),
            recall_check: Duration::from_secs(1),
            issuer_refresh: Duration::from_secs(60),
            quota_check: Duration::from_secs(30),
            use_check: Duration::from_secs(30),
            audit_checkpoint: Duration::from_secs(60),
            audit_checkpoint_limit: Duration::from_secs(240),
            retention_check: Duration::from_secs(3600),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Config;

    fn parse(more: &[&str]) -> Result<Config, clap::Error> {
        let base = [
            "bursar-operator",
            "--database-url=postgres://u:planted-password@h/d",
            "--root-key-dir=/k",
        ];
        Config::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn a_lease_outside_15_to_900_seconds_is_refused() {
        for seconds in ["14", "901", "-1", "a"] {
            assert!(parse(&["--lease-seconds", seconds]).is_err(), "{seconds}");
        }
        for seconds in ["15", "900"] {
            assert!(parse(&["--lease-seconds", seconds]).is_ok(), "{seconds}");
        }
    }

    #[test]
    fn a_wrong_flag_is_answered_without_the_password() {
        let Err(error) = parse(&["--listen", "nowhere"]) else {
            panic!("nowhere is no address");
        };
        assert!(!error.to_string().contains("planted-password"));
    }
}
