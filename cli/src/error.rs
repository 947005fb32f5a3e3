//! Why a command did not do what it was asked.

use std::io;

use bursar_wire::people::Problem;
use bursar_wire::tls::TlsError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The kubeconfig cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// No client can be made of it.
    #[error("no client for the Kubernetes API can be made: {0}")]
    Client(#[source] Box<kube::Error>),
    /// The API server did not say who the person is.
    #[error("the Kubernetes API does not say who you are: {0}")]
    WhoAmI(#[source] Box<kube::Error>),
    /// No token for the vault.
    #[error(
        "no token of service account {namespace}/{name} can be had ({source}): name another with \
         --service-account, or have it made and let you create serviceaccounts/token for it"
    )]
    Token {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The API server did not hand the request on.
    #[error("the API server does not hand the request on to the vault: {0}")]
    Proxy(String),
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
    /// Nobody answers there.
    #[error("the vault does not answer: {0}")]
    Connect(String),
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
