//! How several fields become one string of bytes that reads only one way.
//!
//! `format byte (1) | label | field | field ...`, where the label and each field
//! is its length as a big-endian `u32` and then its bytes. Numbers are
//! big-endian, UUIDs are their 16 bytes. No two lists of fields have the same
//! encoding, and no layer can take another's for its own: the label differs.

use uuid::Uuid;

/// The format of everything this crate writes. A change to any layout or
/// algorithm takes the next number.
pub(crate) const FORMAT: u8 = 1;

/// Fields being encoded.
#[derive(Clone)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn new(label: &str) -> Self {
        Self(vec![FORMAT]).bytes(label.as_bytes())
    }

    pub(crate) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&length_prefix(field));
        self.0.extend_from_slice(field);
        self
    }

    /// A field with its type in front, as rows have them.
    pub(crate) fn typed(mut self, kind: u8, field: &[u8]) -> Self {
        self.0.push(kind);
        self.bytes(field)
    }

    pub(crate) fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn u32(self, field: u32) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    pub(crate) fn uuid(self, field: Uuid) -> Self {
        self.bytes(field.as_bytes())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Big-endian length. Nothing encoded here comes near 4 GiB (Postgres ends a
/// column at 1 GiB), so the bound is never met.
pub(crate) fn length_prefix(field: &[u8]) -> [u8; 4] {
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_format_label_and_prefixed_fields() {
        let bytes = Fields::new("ab").u32(7).text("c").into_bytes();
        assert_eq!(
            bytes,
            [
                1, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 1, b'c'
            ]
        );
    }

    #[test]
    fn moving_a_border_between_fields_changes_the_bytes() {
        let encode = |a, b| Fields::new("t").text(a).text(b).into_bytes();
        assert_ne!(encode("ab", "c"), encode("a", "bc"));
        assert_ne!(encode("abc", ""), encode("", "abc"));
    }
}
