//! StoredTokens and their versions.
//!
//! A token serves one version, its newest, unless that is dead. Older ones stay
//! as they are: who still holds one is told to ask again, and goes on until then.
//!
//! A value that was revoked on purpose is remembered by its fingerprint and not
//! stored again in the tenant. Where it is stored already, in a newer version or
//! on another token, that version becomes dead with it; such a token is recalled
//! in the same transaction, and hears at its next reconcile why its source's value
//! is refused. [`TokenState::ended_elsewhere`] says that there is such a token.
//!
//! # Damaged rows
//!
//! A row that is not what the vault wrote decides nothing. When a controller
//! meets it, it is put on record, and then:
//!
//! - the rows of the token and its consumers follow from the spec and are
//!   written anew from it. But a damaged token row says nothing of whom its
//!   versions were for, so all of these are dead, and the source gives a new one;
//! - a damaged version stays where it is and is never served; the source gives a
//!   new one, and a source that has nothing to give shows as
//!   [`Serving::IntegrityFailure`];
//! - deleting goes on in any case: it only denies.
//!
//! An older row that somebody put back is authentic. It shows by a version
//! number that was seen before, in a version that is still there or in the
//! object's status: then nothing is served until the whole database is restored
//! or the lost versions are given up ([`VaultError::RowRolledBack`]).
//!
//! [`VaultError::RowRolledBack`]: crate::VaultError::RowRolledBack

mod apply;
mod delete;
mod drain;
mod plan;
mod revoke;
mod shred;
mod spec;
mod stored;
mod uses;
mod versions;

pub use delete::RETENTION;
pub use drain::Drain;
pub use revoke::{RevokeError, Revoked};
pub use spec::{RefusedValue, Serving, Source, TokenSpec, TokenState};
pub use uses::TokenUse;
pub(crate) use versions::kill_versions;
