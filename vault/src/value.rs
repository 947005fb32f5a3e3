//! The value of a token, checked.

use bursar_seal::Secret;

/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 32_768;

/// Why bytes are no token value. The bytes are not repeated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// Nothing there.
    #[error("the value is empty; a token has 1 to {MAX_VALUE_BYTES} bytes")]
    Empty,
    /// More than [`MAX_VALUE_BYTES`].
    #[error("the value has {bytes} bytes; a token has at most {MAX_VALUE_BYTES}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not text.
    #[error("the value is not UTF-8 text; encode binary values first, for example as base64")]
    NotUtf8,
}

/// A token in plain form: 1 to 32,768 bytes of UTF-8. It cannot be printed and
/// is zeroed when dropped.
pub struct TokenValue(Secret);

impl TokenValue {
    /// Takes the bytes over without a copy; they are zeroed when refused, too.
    ///
    /// # Errors
    /// [`ValueError`] for an empty, too long or binary value.
    pub fn new(value: Secret) -> Result<Self, ValueError> {
        match value.expose() {
            [] => Err(ValueError::Empty),
            long if long.len() > MAX_VALUE_BYTES => Err(ValueError::TooLong { bytes: long.len() }),
            bytes if std::str::from_utf8(bytes).is_err() => Err(ValueError::NotUtf8),
            _ => Ok(Self(value)),
        }
    }

    /// A value that was made to fit.
    pub(crate) fn generated(value: Secret) -> Self {
        Self(value)
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: Vec<u8>) -> Option<ValueError> {
        TokenValue::new(Secret::from(bytes)).err()
    }

    #[test]
    fn one_to_32768_bytes_of_text_are_a_value() {
        assert_eq!(check(b"x".to_vec()), None);
        assert_eq!(check(vec![b'x'; 32_768]), None);
        assert_eq!(check("héllo\n".into()), None);
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        assert_eq!(check(vec![]), Some(ValueError::Empty));
        assert_eq!(
            check(vec![b'x'; 32_769]),
            Some(ValueError::TooLong { bytes: 32_769 })
        );
        assert_eq!(check(vec![0xff, 0xfe]), Some(ValueError::NotUtf8));
    }
}
