//! Authenticated rows: whoever writes the database cannot forge one.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use uuid::Uuid;

use crate::fields::{Fields, length_prefix};
use crate::key::{Key, hmac_sha256};

/// A row that was not written by a holder of the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RowMacError {
    /// A column differs from what was authenticated, or the MAC does.
    #[error("a row of {table} is not authentic; restore it from a backup or store it anew")]
    Mismatch {
        /// The row's table.
        table: &'static str,
    },
}

/// The key that authenticates the rows of one tenant (HMAC-SHA256), derived from
/// one version of its tenant key: see [`TenantKey::row_mac`](crate::TenantKey::row_mac).
pub struct RowMac(hmac::Key);

impl RowMac {
    pub(crate) fn new(key: &Key) -> Self {
        Self(key.to_hmac())
    }

    /// The MAC to store in the row.
    #[must_use]
    pub fn mac(&self, row: &RowWriter) -> [u8; 32] {
        hmac_sha256(&self.0, row.as_bytes())
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`RowMacError::Mismatch`] when the row is not the one that was
    /// authenticated.
    pub fn verify(&self, row: &RowWriter, mac: &[u8]) -> Result<(), RowMacError> {
        verify_slices_are_equal(&self.mac(row), mac).map_err(|_| row.mismatch())
    }
}

/// The columns of one row, in an order that the table's code fixes.
///
/// Each column is written with its type and length, and an absent one as absent,
/// so that no two rows are the same bytes:
///
/// ```
/// use bursar_seal::RowWriter;
///
/// let row = |alias, note| RowWriter::new("tokens").text(alias).opt_text(note);
/// assert_ne!(row("ab", Some("c")).as_bytes(), row("a", Some("bc")).as_bytes());
/// assert_ne!(row("ab", Some("")).as_bytes(), row("ab", None).as_bytes());
/// ```
#[derive(Clone)]
pub struct RowWriter {
    table: &'static str,
    fields: Fields,
}

// The type in front of each column. Stored MACs depend on these numbers: they
// are never changed or used again.
const ABSENT: u8 = 0;
const BYTES: u8 = 1;
const TEXT: u8 = 2;
const UUID: u8 = 3;
const I64: u8 = 4;
const BOOL: u8 = 5;
const TEXTS: u8 = 6;

impl RowWriter {
    /// Begins a row of `table`. When the columns of a table that is in use
    /// change, give it another name here (such as `tokens/2`), so that old rows
    /// are told from new ones.
    #[must_use]
    pub fn new(table: &'static str) -> Self {
        Self {
            table,
            fields: Fields::new("bursar row").text(table),
        }
    }

    /// A `bytea` column.
    #[must_use]
    pub fn bytes(self, column: &[u8]) -> Self {
        self.column(BYTES, column)
    }

    /// A `bytea` column that may be null.
    #[must_use]
    pub fn opt_bytes(self, column: Option<&[u8]>) -> Self {
        self.optional(column, Self::bytes)
    }

    /// A `text` column.
    #[must_use]
    pub fn text(self, column: &str) -> Self {
        self.column(TEXT, column.as_bytes())
    }

    /// A `text` column that may be null.
    #[must_use]
    pub fn opt_text(self, column: Option<&str>) -> Self {
        self.optional(column, Self::text)
    }

    /// A `uuid` column.
    #[must_use]
    pub fn uuid(self, column: Uuid) -> Self {
        self.column(UUID, column.as_bytes())
    }

    /// A `uuid` column that may be null.
    #[must_use]
    pub fn opt_uuid(self, column: Option<Uuid>) -> Self {
        self.optional(column, Self::uuid)
    }

    /// A whole number of any width; times in one unit that the table's code
    /// fixes.
    #[must_use]
    pub fn i64(self, column: i64) -> Self {
        self.column(I64, &column.to_be_bytes())
    }

    /// A whole number or time that may be null.
    #[must_use]
    pub fn opt_i64(self, column: Option<i64>) -> Self {
        self.optional(column, Self::i64)
    }

    /// A `boolean` column.
    #[must_use]
    pub fn bool(self, column: bool) -> Self {
        self.column(BOOL, &[column.into()])
    }

    /// A `text[]` column without nulls. The order counts: sort what is a set.
    #[must_use]
    pub fn texts<T: AsRef<str>>(self, column: &[T]) -> Self {
        let mut list = Vec::new();
        for text in column {
            let text = text.as_ref().as_bytes();
            list.extend_from_slice(&length_prefix(text));
            list.extend_from_slice(text);
        }
        self.column(TEXTS, &list)
    }

    /// What is authenticated.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.fields.as_bytes()
    }

    pub(crate) fn mismatch(&self) -> RowMacError {
        RowMacError::Mismatch { table: self.table }
    }

    fn column(self, kind: u8, column: &[u8]) -> Self {
        Self {
            table: self.table,
            fields: self.fields.typed(kind, column),
        }
    }

    fn optional<T>(self, column: Option<T>, write: impl FnOnce(Self, T) -> Self) -> Self {
        match column {
            Some(column) => write(self, column),
            None => self.column(ABSENT, &[]),
        }
    }
}
