//! What can go wrong with a write or a read, and what kind of trouble it is.

use std::io;

use bursar_seal::{
    DataKeyError, RandomError, TenantId, TenantKeyError, TenantSecretError, TokenId,
};
use jiff::Timestamp;

use crate::integrity::IntegrityFailure;
use crate::names::UserUid;

/// The kinds of trouble, by which callers choose a status, a condition or a
/// label, and whether to try again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Category {
    /// The database is away or overloaded: the same call may succeed later.
    Unavailable,
    /// Another replica leads: this one must stop its controllers.
    Superseded,
    /// What was asked for does not fit what is stored; the message says what to
    /// change.
    Refused,
    /// A row that decides access is not what the vault wrote.
    Integrity,
    /// A setting is wrong; a person must change it.
    Misconfigured,
    /// A defect: neither input nor settings explain it.
    Internal,
}

/// The database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Away, starting, stopping, out of connections, or a lock was not granted
    /// in time. Whether a commit under way took place is unknown.
    #[error("the database is not available ({0}); the call can be repeated")]
    Unavailable(#[source] sqlx::Error),
    /// It is there and does not let us in.
    #[error("the database refused the connection ({0}); check its URL, password and CA")]
    Access(#[source] sqlx::Error),
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[source] sqlx::Error),
    /// Several statements, none of them too long, took too long together.
    #[error("the query took too long")]
    TookTooLong,
}

impl DatabaseError {
    /// What kind of trouble this is.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Unavailable(_) | Self::TookTooLong => Category::Unavailable,
            Self::Access(_) => Category::Misconfigured,
            Self::Statement(_) => Category::Internal,
        }
    }

    /// Whether no statement at all would be answered.
    fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable(sqlx::Error::Database(error)) => {
                !CONTENDED.contains(&&*error.code().unwrap_or_default())
            }
            Self::Unavailable(_) | Self::Access(_) => true,
            Self::Statement(_) | Self::TookTooLong => false,
        }
    }

    /// Whether a query was given up because it took too long: the same again would too.
    #[must_use]
    pub fn took_too_long(&self) -> bool {
        match self {
            // Appendix A of the Postgres manual: query_canceled.
            Self::Unavailable(sqlx::Error::Database(error)) => {
                error.code().as_deref() == Some("57014")
            }
            Self::TookTooLong => true,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => Self::Access(error),
            // A certificate that does not verify.
            sqlx::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => Self::Access(error),
            sqlx::Error::Io(_) => Self::Unavailable(error),
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                let of_class =
                    |classes: &[&str]| classes.iter().any(|class| code.starts_with(class));
                // Classes and codes of appendix A of the Postgres manual.
                if of_class(&UNAVAILABLE) {
                    Self::Unavailable(error)
                } else if of_class(&ACCESS) {
                    Self::Access(error)
                } else {
                    Self::Statement(error)
                }
            }
            _ => Self::Statement(error),
        }
    }
}

/// Connection, resources, operator intervention; lock not available, idle in
/// transaction, serialization failure, deadlock.
const UNAVAILABLE: [&str; 7] = ["08", "53", "57", "55P03", "25P03", "40001", "40P01"];
/// Those of them that other transactions on the same rows lead to.
const CONTENDED: [&str; 4] = ["55P03", "25P03", "40001", "40P01"];
/// Authorization, no such database.
const ACCESS: [&str; 2] = ["28", "3D"];

/// Why the vault did not store or find something.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A newer leader has taken over.
    #[error(
        "term {term} has been superseded: another replica leads now, and this one must stop its \
         controllers"
    )]
    TermSuperseded {
        /// The term that is over.
        term: i64,
    },
    /// The namespace was recreated meanwhile.
    #[error("tenant {tenant} is retired because its namespace was recreated")]
    TenantRetired {
        /// The old tenant.
        tenant: TenantId,
    },
    /// No such user, or a deleted one.
    #[error(
        "token {token} is for user UID {user}, which is not in the vault; apply the user first"
    )]
    UserNotFound {
        /// The token that names the user.
        token: TokenId,
        /// The user it names.
        user: UserUid,
    },
    /// The vault knows less than its own record elsewhere says it should.
    #[error(
        "token {token} is at version {stored} in the vault but was at version {known} before: the \
         database went back in time; restore it, or set revocation.throughVersion to {known} to \
         give those versions up"
    )]
    RowRolledBack {
        /// The token.
        token: TokenId,
        /// The newest version its row tells of; 0 for none.
        stored: u32,
        /// The newest version known from elsewhere.
        known: u32,
    },
    /// What is old enough is told by a clock that may be wrong.
    #[error(
        "the database's clock is at {database} and that of this machine at {here}: no records are \
         dropped, for which of them are old is not certain, and no checkpoints are written; set \
         the clock that is wrong"
    )]
    ClocksApart {
        /// The database's time.
        database: Timestamp,
        /// The time here.
        here: Timestamp,
    },
    /// The next checkpoints of all tenants would be ahead of their time as well.
    #[error(
        "checkpoint {checkpoint_no} of tenant {tenant} is more than an hour ahead of this machine's \
         clock, which is at {here}: no checkpoints are written, for each has to be later than the \
         newest; set the clock if it is wrong, and otherwise delete that row of table checkpoint, \
         and its rows of checkpoint_head, once you know who wrote it"
    )]
    CheckpointAhead {
        /// Whose checkpoint.
        tenant: TenantId,
        /// Its number there.
        checkpoint_no: i64,
        /// The time here.
        here: Timestamp,
    },
    /// A row or key is not what the vault wrote.
    #[error(transparent)]
    Integrity(#[from] IntegrityFailure),
    /// A key could not be made, or a root key was not given to this process.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database did not answer as it should.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl VaultError {
    /// What kind of trouble this is.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::TermSuperseded { .. } => Category::Superseded,
            Self::TenantRetired { .. } | Self::UserNotFound { .. } | Self::RowRolledBack { .. } => {
                Category::Refused
            }
            Self::ClocksApart { .. } | Self::CheckpointAhead { .. } => Category::Misconfigured,
            Self::Integrity(_) => Category::Integrity,
            Self::Key(error) => error.category(),
            Self::Database(error) => error.category(),
        }
    }

    /// Whether the next tenant would fare no better: another replica leads, the database is
    /// away, or a clock is wrong. Otherwise it is the trouble of one tenant, for example a row
    /// that somebody holds.
    pub(crate) fn is_everybodys(&self) -> bool {
        match self {
            Self::TermSuperseded { .. }
            | Self::ClocksApart { .. }
            | Self::CheckpointAhead { .. } => true,
            Self::Database(error) => error.is_outage(),
            _ => false,
        }
    }
}

/// A key could not be made or found. A stored key that does not open is a
/// [`VaultError::Integrity`] instead.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A tenant key.
    #[error(transparent)]
    Tenant(#[from] TenantKeyError),
    /// The key of a tenant's fingerprints.
    #[error(transparent)]
    Secret(#[from] TenantSecretError),
    /// The key of a token version.
    #[error(transparent)]
    Data(#[from] DataKeyError),
    /// A new id.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyError {
    /// What kind of trouble this is.
    #[must_use]
    pub const fn category(&self) -> Category {
        match self {
            Self::Tenant(TenantKeyError::Root(_)) => Category::Misconfigured,
            _ => Category::Internal,
        }
    }
}

impl From<sqlx::Error> for VaultError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}
