//! What the controllers say of a token, and what they are told.

use std::time::Duration;

use bursar_seal::{TokenId, TokenVersion};
use jiff::Timestamp;

use crate::generate::GenerateSpec;
use crate::integrity::IntegrityFailure;
use crate::names::{Provider, TokenName, UserUid};
use crate::rows::{Consumer, DeletionPolicy};
use crate::value::TokenValue;

/// A StoredToken's spec.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// `metadata.uid`.
    pub id: TokenId,
    /// `metadata.name`.
    pub name: TokenName,
    /// `metadata.uid` of the TokenUser it is for.
    pub user_uid: UserUid,
    /// The service it is for.
    pub provider: Provider,
    /// From then on nothing is served.
    pub expiration_time: Option<Timestamp>,
    /// `None`: all the user's workloads may read.
    pub consumers: Option<Vec<Consumer>>,
    /// `revocation.throughVersion`: every version up to it is dead.
    pub through_version: Option<TokenVersion>,
    /// What becomes of the values when the token is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The version that the object's status tells of, by which a database that
    /// went back in time is noticed.
    pub known_version: Option<TokenVersion>,
}

/// Where the value comes from, as far as it could be had.
pub enum Source<'a> {
    /// What the Secret holds now.
    SecretKeyRef(&'a TokenValue),
    /// The vault makes one whenever there is none to be served.
    Generate(&'a GenerateSpec),
    /// The Secret cannot be read: the spec is applied, and the newest version
    /// goes on being served.
    Unavailable,
}

/// What became of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenState {
    /// The newest version, dead or alive; `None` before the first.
    pub newest_version: Option<TokenVersion>,
    /// When that was stored.
    pub version_time: Option<Timestamp>,
    /// Every version up to this one is dead by the spec; never lower than it was.
    pub through_version: Option<TokenVersion>,
    /// The same by what a person asked for beside the spec.
    pub api_through_version: Option<TokenVersion>,
    /// Whether a read would succeed now.
    pub serving: Serving,
    /// How long until `expiration_time` comes, by the database's clock; `None`
    /// unless the token is served until then.
    pub expires_in: Option<Duration>,
    /// True when this call stored a new version.
    pub stored_new_version: bool,
    /// True when this call ended versions of other tokens too, because it revoked
    /// their value.
    pub ended_elsewhere: bool,
    /// Set when the source's value was not stored.
    pub refused: Option<RefusedValue>,
    /// Damaged rows that this call found; they are on record, and decided
    /// nothing. Those of the spec were written anew; a damaged newest version is
    /// replaced by a new one as soon as the source has a value.
    pub damaged: Vec<IntegrityFailure>,
}

/// Whether a token can be read, or why not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serving {
    /// A read by somebody entitled succeeds.
    Serving,
    /// No value was stored yet, or none for the present user, or the newest was
    /// revoked elsewhere in the tenant.
    NoVersion,
    /// The newest version is among those the spec revokes.
    RevokedBySpec,
    /// A person revoked the newest version beside the spec.
    RevokedByAPI,
    /// `expiration_time` has come.
    Expired,
    /// The user is suspended.
    UserSuspended,
    /// The newest version is not what the vault wrote.
    IntegrityFailure,
}

/// Why a readable value was not stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedValue {
    /// This value was revoked on purpose in this tenant.
    RevokedValueReused {
        /// The token it was revoked on (perhaps this one).
        token: TokenId,
        /// The version it had there.
        version: TokenVersion,
    },
    /// No version number is left above the newest and the revoked ones.
    VersionsExhausted,
}
