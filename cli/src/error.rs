//! Why a command did not do what it was asked.

use std::io;
use std::time::Duration;

use bursar_wire::people::Problem;
use bursar_wire::tls::TlsError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(String),
    /// No client can be made of it.
    #[error("no client for the Kubernetes API can be made: {0}")]
    Client(String),
    /// The API server does not know the credentials of the kubeconfig.
    #[error(
        "you are not logged in: the Kubernetes API does not take the credentials of your \
         kubeconfig ({0}): log in again, or give another --context or --kubeconfig"
    )]
    NotLoggedIn(String),
    /// The API server did not say who the person is.
    #[error("the Kubernetes API does not say who you are: {0}")]
    WhoAmI(String),
    /// No token for the vault.
    #[error(transparent)]
    Token(#[from] NoToken),
    /// The API server did not hand the request on.
    #[error("the API server does not hand the request on to the vault: {said}{advice}")]
    Proxy {
        /// What it said.
        said: String,
        /// What to do, if that is known.
        advice: String,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The vault's URL or its certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The vault's own URL.
    #[error("--vault must be https://HOST:PORT")]
    Url,
    /// Nobody answers at the vault's own URL.
    #[error("the vault at {url} does not answer ({cause}): check --vault or BURSAR_PEOPLE")]
    Connect {
        /// The URL.
        url: String,
        /// What happened instead.
        cause: String,
    },
    /// An answer took too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    Late(Duration),
    /// A request that cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// The vault refused.
    #[error("{} ({})", .0.detail, .0.code)]
    Refused(Problem),
    /// A revocation whose answer may have been lost.
    #[error(
        "{source}; it is not known whether all versions up to {through_version} are revoked: try \
         again with --through-version {through_version}"
    )]
    Uncertain {
        /// The last version it was asked for.
        through_version: u32,
        /// Why there is no answer.
        source: Box<CliError>,
    },
    /// Something else than the vault answered.
    #[error("what answered is not Bursar's vault, or another release of it: HTTP {0}")]
    NotTheVault(u16),
    /// Writing to standard output failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// An argument, or a flag that does not go with another.
    #[error("{0}")]
    Usage(&'static str),
}

impl CliError {
    /// Whether the command line itself is wrong.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Url)
    }
}

/// Why there is no token of a service account.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// Its namespace is not there.
    #[error("there is no namespace {namespace}: give the one to ask about with -n")]
    Namespace {
        /// The namespace.
        namespace: String,
    },
    /// It is not there.
    #[error(
        "there is no service account {name} in namespace {namespace}: apply \
         examples/quickstart/people.yaml in namespace {namespace}, or give another namespace with \
         -n, or another service account with --service-account"
    )]
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The person may not have one.
    #[error(
        "you may not use service account {namespace}/{name} ({said}): have a Role bound to you in \
         namespace {namespace} that has the verb create for serviceaccounts/token, resourceNames \
         [{name}], or name another service account with --service-account"
    )]
    NoRight {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        said: String,
    },
    /// Something else.
    #[error("no token of service account {namespace}/{name} can be had: {said}")]
    Other {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said, or why it said nothing.
        said: String,
    },
}
