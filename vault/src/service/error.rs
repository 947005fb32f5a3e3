//! Why a call could not be answered, and the gRPC status that says so.

use std::fmt;

use bursar_seal::RandomError;
use tonic::Status;

use super::pods::OF_ONE_POD;
use crate::error::{Category, DatabaseError, VaultError};
use crate::integrity::IntegrityFailure;

/// Everything that ends a call without an answer.
///
/// Callers get the sentence of the status; what it is about goes to the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody we know: an unknown, fenced or unproven incarnation, or a token
    /// that was refused. One sentence for all of them.
    #[error("not authenticated: attach again with the pod's current token")]
    Unauthenticated,
    /// A call on a connection on which nobody has attached yet. A broker whose
    /// connection was replaced under it attaches again and loses nothing.
    #[error("nothing is answered on this connection before an attach")]
    NotAttached,
    /// The row of the caller's incarnation is not what the vault wrote. The
    /// caller is told what all others are told who cannot prove themselves.
    #[error("{}", Self::Unauthenticated)]
    Damaged(IntegrityFailure),
    /// A proven incarnation whose review is overdue. It is not over: what it reports is
    /// taken, and nothing is decided for it until the API server has vouched again.
    #[error("this pod's review is overdue: attach again with its current token")]
    Overdue,
    /// No version of the protocol is spoken by both sides.
    #[error(
        "this vault speaks protocol versions {ours_min} to {ours_max}, the broker {theirs_min} to \
         {theirs_max}: bring operator and broker within a year of each other"
    )]
    Protocol {
        ours_min: u32,
        ours_max: u32,
        theirs_min: u32,
        theirs_max: u32,
    },
    /// Too many attach at once, or this pod does already.
    #[error("too many brokers attach at once; try again in a few seconds")]
    Crowded,
    /// The pod has as many connections to this replica as it may have.
    #[error("this pod has {OF_ONE_POD} connections to this replica: close some first")]
    TooManyConnections,
    /// More open allowances than any broker can use.
    #[error("this broker has 10,000 open allowances: report and close some first")]
    TooManyOpen,
    /// The namespace has no tenant.
    #[error("the vault has nothing for this namespace: apply a TokenUser there first")]
    NoTenant,
    /// A request that no broker of ours sends.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// A number that is not the next one.
    #[error("{what} {given} does not follow {last}: attach again to learn the last one")]
    OutOfOrder {
        what: &'static str,
        given: u64,
        last: u64,
    },
    /// The API server gave no answer.
    #[error("the API server does not answer; try again")]
    ReviewUnavailable,
    /// The database is connected, and silent.
    #[error("the database does not answer")]
    Silent,
    /// This replica is about to end.
    #[error("this replica is shutting down; connect again")]
    ShuttingDown,
    /// The store failed.
    #[error("{}", store_sentence(.0.category()))]
    Store(#[from] VaultError),
    /// The random generator failed.
    #[error("the random generator failed")]
    Random(#[from] RandomError),
}

impl CallError {
    /// What happened, for the log.
    pub(crate) fn cause(&self) -> &dyn fmt::Display {
        match self {
            Self::Store(cause) => cause,
            other => other,
        }
    }
}

impl From<sqlx::Error> for CallError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<DatabaseError> for CallError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

const fn store_sentence(category: Category) -> &'static str {
    match category {
        Category::Unavailable => "the vault cannot reach its database; try again",
        _ => "the vault cannot answer this; its log says why",
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        if let CallError::Store(_) = &error {
            tracing::warn!(cause = %error.cause(), "a broker's call failed");
        }
        let sentence = error.to_string();
        match error {
            CallError::Unauthenticated | CallError::Damaged(_) => Self::unauthenticated(sentence),
            CallError::Protocol { .. } | CallError::OutOfOrder { .. } => {
                Self::failed_precondition(sentence)
            }
            CallError::Crowded | CallError::TooManyConnections | CallError::TooManyOpen => {
                Self::resource_exhausted(sentence)
            }
            CallError::NoTenant => Self::not_found(sentence),
            CallError::Malformed(_) => Self::invalid_argument(sentence),
            // To the broker an overdue review is a vault that cannot answer
            // until it has attached again: what it holds and has not reported
            // is not void.
            CallError::NotAttached
            | CallError::Overdue
            | CallError::ReviewUnavailable
            | CallError::Silent
            | CallError::ShuttingDown => Self::unavailable(sentence),
            CallError::Store(cause) => match cause.category() {
                Category::Unavailable => Self::unavailable(sentence),
                _ => Self::internal(sentence),
            },
            CallError::Random(_) => Self::internal(sentence),
        }
    }
}
