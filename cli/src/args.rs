//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::time::{Since, duration};

/// The service account to read with, unless told.
const AUDITOR: &str = "bursar-auditor";
/// The service account to revoke with, unless told.
const REVOKER: &str = "bursar-revoker";

/// Who read which token, how much of quotas is used, why a request was refused, and revoking
/// at once.
///
/// It asks the API server for a token of a service account that you may use
/// (`create serviceaccounts/token`), and shows that to the vault. What you may do is
/// what that service account may do: `list accessrecords.bursar.dev` for audit, quotas
/// and why, `revoke storedtokens.bursar.dev` for revoke. Your own name goes on record.
#[derive(Debug, Parser)]
#[command(name = "kubectl-bursar", bin_name = "kubectl bursar", version)]
pub struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Whether 1 says that something was found, and 2 that the command could not find out.
    #[must_use]
    pub fn finds(&self) -> bool {
        let Command::Audit(audit) = &self.command else {
            return false;
        };
        matches!(audit.command, Some(AuditCommand::Verify))
    }

    /// Whose token is shown: who may read need not be able to revoke.
    pub(crate) fn service_account(&self) -> &str {
        let default = match &self.command {
            Command::Revoke(_) => REVOKER,
            Command::Audit(_) | Command::Quotas(_) | Command::Why { .. } => AUDITOR,
        };
        let named = self.global.service_account.as_deref();
        named.unwrap_or(default)
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Global {
    /// The kubeconfig file [default: those in KUBECONFIG, or else ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,

    /// The namespace [default: the context's]
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,

    /// The service account whose token is shown to the vault: NAME in that namespace, or
    /// NAMESPACE/NAME [default: bursar-auditor, or for revoke bursar-revoker]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) service_account: Option<String>,

    /// The vault's own URL, https://HOST:PORT, instead of the API server's proxy
    #[arg(
        long,
        global = true,
        env = "BURSAR_PEOPLE",
        value_name = "URL",
        requires = "ca_file"
    )]
    pub(crate) vault: Option<String>,

    /// With --vault: Bursar's CA (key ca.crt of ConfigMap bursar-ca)
    #[arg(long, global = true, env = "BURSAR_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// With --vault: the name in the vault's certificate
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "bursar-vault.bursar-system.svc"
    )]
    pub(crate) vault_name: String,

    /// Where Bursar is installed
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        default_value = "bursar-system"
    )]
    pub(crate) bursar_namespace: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Who read which token, when, how often and what for; newest last
    Audit(Audit),
    /// How much of TokenQuotas is used, exactly; of those for each user also by whom
    ///
    /// USED is what is charged. HELD is, of that, what brokers were granted: they use it or give
    /// it back, and what a broker that died had stays charged. Of a quota for each user, who
    /// used most comes first, and who used nothing is left out, as are users that were deleted.
    ///
    /// Exit code 1 when there is none of that name or user, and when quotas are not as the
    /// vault wrote them.
    Quotas(Quotas),
    /// Why a request was refused, by the decision_id in the refusal
    Why {
        /// The decision_id
        decision_id: String,
    },
    /// Revoke a token at once, whatever its spec says now or later
    ///
    /// The spec is not edited, so nothing drifts; status says RevokedByAPI. The
    /// values are refused from any source from then on; a new value is a new version.
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) command: Option<AuditCommand>,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no record was changed, removed or put back
    ///
    /// Exit code 0 when none was, 1 when one was, 2 when that could not be found out.
    Verify,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Of this TokenUser
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Of this StoredToken
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// By pods of this service account
    #[arg(long, value_name = "NAME")]
    pub(crate) by_service_account: Option<String>,
    /// For this purpose, as claimed
    #[arg(long)]
    pub(crate) purpose: Option<String>,
    /// By this application, as claimed
    #[arg(long)]
    pub(crate) app: Option<String>,
    /// Of this outcome, in capitals or not
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) outcome: Option<Outcome>,
    /// Recorded since: 90s, 1h, 7d, or 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Recorded before, as with --since
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Since>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Show {
    /// At most so many, the newest [default: 100; with -o jsonl all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Go on with what is recorded later; with -o jsonl
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Quotas {
    /// The TokenQuota [default: all]
    pub(crate) name: Option<String>,
    /// Those of this TokenUser, and of this user's tokens
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Of a quota for each user, at most so many users [default: 100; at most 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: Option<u32>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// What records tell of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum Outcome {
    /// A broker gave out a value
    Served,
    /// A broker may have given it out and never said
    Unaccounted,
    /// How much of what was unaccounted for was told of later
    Accounted,
    /// A request was refused
    Denied,
    /// A person read the audit, or how quotas stand
    Queried,
    /// A person revoked a token
    Revoked,
}

impl Outcome {
    /// As the vault calls it.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// How records are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// Columns; in a terminal names and claims are cut, so that they fit 120 characters
    Table,
    /// All columns, whole
    Wide,
    /// One JSON array
    Json,
    /// One JSON object a line, as it comes: the export
    Jsonl,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The StoredToken
    pub(crate) token: String,
    /// This version and all before it [default: the newest there is now]
    #[arg(long, value_name = "VERSION")]
    pub(crate) through_version: Option<u32>,
    /// Wait until no broker can serve one of them any more, and print a receipt
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "20m", value_parser = duration, requires = "wait")]
    pub(crate) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, Command};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_flags_are_taken_behind_the_command_too() {
        let args = ["kubectl-bursar", "audit", "-n", "team", "--since", "1h"];
        let args = Args::try_parse_from(args).unwrap();
        assert_eq!(args.global.namespace.as_deref(), Some("team"));
    }

    #[test]
    fn an_outcome_is_taken_in_any_case_and_named_as_the_vault_does() {
        for text in ["served", "SERVED", "Served"] {
            let args = ["kubectl-bursar", "audit", "--outcome", text];
            let Command::Audit(audit) = Args::try_parse_from(args).unwrap().command else {
                panic!("not audit");
            };
            assert_eq!(audit.filter.outcome.unwrap().name(), "Served");
        }
        let args = ["kubectl-bursar", "audit", "--outcome", "Given"];
        let told = Args::try_parse_from(args).unwrap_err().to_string();
        assert!(told.contains("Served, Unaccounted, Accounted, Denied, Queried, Revoked"));
    }

    #[test]
    fn the_help_of_audit_tells_filters_output_and_connection_apart() {
        let args = ["kubectl-bursar", "audit", "--help"];
        let help = Args::try_parse_from(args).unwrap_err().to_string();
        let at = |part: &str| help.find(part).unwrap_or_else(|| panic!("{part}: {help}"));
        let places = [
            at("\nFilters:\n"),
            at("--outcome <"),
            at("- Unaccounted:"),
            at("--until <"),
            at("\nOutput:\n"),
            at("--follow"),
            at("\nConnection:\n"),
            at("--vault <"),
        ];
        assert!(places.is_sorted(), "{help}");
    }

    #[test]
    fn who_reads_is_not_who_revokes() {
        let account = |args: &[&str]| {
            let args = [&["kubectl-bursar"], args].concat();
            let args = Args::try_parse_from(args).unwrap();
            args.service_account().to_owned()
        };
        assert_eq!(account(&["audit"]), "bursar-auditor");
        assert_eq!(account(&["audit", "verify"]), "bursar-auditor");
        assert_eq!(account(&["quotas"]), "bursar-auditor");
        assert_eq!(account(&["why", "d"]), "bursar-auditor");
        assert_eq!(account(&["revoke", "t"]), "bursar-revoker");
        let told = ["revoke", "t", "--service-account", "sec/a"];
        assert_eq!(account(&told), "sec/a");
    }

    #[test]
    fn the_vaults_own_url_needs_its_ca() {
        let args = ["kubectl-bursar", "audit", "--vault", "https://v:1"];
        assert!(Args::try_parse_from(args).is_err());
    }
}
