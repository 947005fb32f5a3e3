//! The rows that decide access, each under a MAC over all of its deciding
//! columns (SECURITY 2).
//!
//! A struct here holds a row just as it lies in the database (`UserRow`, ...).
//! Nothing of it may be believed before `verify`, which gives the checked form
//! (`User`, ...). The other way round, `User::to_row` gives the row to write. The
//! columns and their order stand in one place, [`AuthenticatedRow::content`].
//!
//! Values that only a `CHECK` in the schema keeps out (an unknown state, say)
//! count as a failure too: they cannot have been written here.

mod consumer;
mod idempotency_key;
mod incarnation;
mod quota;
mod quota_set;
mod tenant;
mod token;
mod user;
mod version;
mod workload;

use bursar_seal::{RowWriter, TenantKey};
use uuid::Uuid;

use crate::integrity::IntegrityFailure;
use crate::tenant_keys::TenantKeys;

pub use consumer::{Consumer, ConsumerRow};
pub(crate) use idempotency_key::{Claim, Counting};
pub use idempotency_key::{IdempotencyKeyRow, Operation};
pub use incarnation::{Incarnation, IncarnationRow};
pub use quota::{Enforcement, Quota, QuotaRow, Subject, Window};
pub use quota_set::{QuotaSet, QuotaSetRow};
pub use tenant::TenantRow;
pub use token::{DeletionPolicy, Token, TokenRow};
pub use user::{Role, User, UserRow};
pub(crate) use version::value_context;
pub use version::{Origin, State, Version, VersionRow};
pub use workload::{Workload, WorkloadRow};

/// A row with a MAC.
pub trait AuthenticatedRow {
    /// The table, in SQL and in the MAC.
    const TABLE: &'static str;

    /// Whose row this is.
    fn tenant_id(&self) -> Uuid;
    /// Which row of the tenant, for people: names and ids of its key.
    fn row_key(&self) -> String;
    /// The version of the tenant key that the MAC was made under.
    fn key_version(&self) -> i32;
    /// The MAC found in the row.
    fn mac(&self) -> &[u8];
    /// Puts another one in its place, made under that version of the key.
    fn set_mac(&mut self, key_version: i32, mac: Vec<u8>);
    /// All deciding columns in a fixed order. `key_version` is not among them:
    /// the MAC's key is derived from it.
    fn content(&self) -> RowWriter;
}

/// The row again if its MAC fits, the failure to record if not.
pub(crate) fn authentic<R: AuthenticatedRow>(
    row: R,
    keys: &TenantKeys,
) -> Result<R, IntegrityFailure> {
    let fits = row.tenant_id() == keys.tenant().as_uuid()
        && keys
            .of_version(row.key_version())
            .is_some_and(|key| key.row_mac().verify(&row.content(), row.mac()).is_ok());
    if fits {
        Ok(row)
    } else {
        Err(IntegrityFailure::of(&row))
    }
}

/// Gives `row` its MAC under `key`.
pub(crate) fn authenticate<R: AuthenticatedRow>(mut row: R, key: &TenantKey) -> R {
    let mac = key.row_mac().mac(&row.content()).to_vec();
    row.set_mac(key.version().into(), mac);
    row
}

/// The epoch after `epoch`. Only a damaged row is at the end of the numbers, and
/// begins anew.
pub(crate) fn raise(epoch: i64) -> i64 {
    epoch.checked_add(1).unwrap_or(1)
}

/// What an `AuthenticatedRow` says of the columns that each of them has.
macro_rules! mac_columns {
    () => {
        fn tenant_id(&self) -> uuid::Uuid {
            self.tenant_id
        }

        fn key_version(&self) -> i32 {
            self.key_version
        }

        fn mac(&self) -> &[u8] {
            &self.mac
        }

        fn set_mac(&mut self, key_version: i32, mac: Vec<u8>) {
            (self.key_version, self.mac) = (key_version, mac);
        }
    };
}
pub(crate) use mac_columns;

/// Gives a text enum its two directions.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// As it stands in SQL and YAML.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant)),+
                }
            }

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The one that `text` names.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text)
            }
        }
    };
}
pub(crate) use text_enum;
