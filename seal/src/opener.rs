//! Opening one value again and again, fast.

use aws_lc_rs::aead::LessSafeKey;
use zeroize::Zeroize;

use crate::blob::{self, Ciphertext};
use crate::data::{DataKey, DataKeyError, ValueContext};

/// A sealed value with its key made ready, for a process that serves the value
/// often and keeps it in plain form only while it does.
///
/// A data key encrypts once, so the key, its one value and the value's place
/// are kept together and cannot be mixed up. The key is zeroed on drop.
pub struct Opener {
    key: LessSafeKey,
    context: ValueContext,
    place: Box<[u8]>,
    sealed: Box<[u8]>,
}

impl Opener {
    /// Makes ready to open `sealed`. It is not opened yet.
    ///
    /// # Errors
    /// [`DataKeyError::Library`] when the key cannot be set up.
    pub fn new(
        key: &DataKey,
        context: &ValueContext,
        sealed: Ciphertext,
    ) -> Result<Self, DataKeyError> {
        Ok(Self {
            key: key.to_aead()?,
            context: *context,
            place: context.place().into_bytes().into(),
            sealed: sealed.into_bytes().into(),
        })
    }

    /// Opens the value into `buffer`, without allocating once the buffer has
    /// room for it.
    ///
    /// # Errors
    /// [`DataKeyError::OpenValue`] when key, value and place do not belong
    /// together.
    pub fn open<'b>(&self, buffer: &'b mut PlainBuffer) -> Result<Plaintext<'b>, DataKeyError> {
        let unopened = |reason| self.context.unopened(reason);
        let length = blob::plaintext_len(&self.sealed).map_err(unopened)?;
        let out = buffer.zeroed(length);
        blob::open(&self.key, &self.place, &self.sealed, out).map_err(unopened)?;
        Ok(Plaintext(out))
    }
}

/// Memory that plain values are opened into, one after another.
///
/// It holds zeros whenever no [`Plaintext`] borrows it.
#[derive(Default)]
pub struct PlainBuffer(Vec<u8>);

impl PlainBuffer {
    /// An empty buffer; it grows to the longest value.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer with room for values of `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    /// The first `length` bytes, all zero.
    fn zeroed(&mut self, length: usize) -> &mut [u8] {
        if self.0.len() < length {
            // Growing may move the buffer; it has only zeros to leave behind.
            self.0.resize(length, 0);
        }
        &mut self.0[..length]
    }
}

impl Drop for PlainBuffer {
    /// Only matters when a [`Plaintext`] was leaked, which skips its own drop.
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A value in plain form, zeroed when dropped.
///
/// ```compile_fail,E0277
/// fn print(value: bursar_seal::Plaintext<'_>) {
///     println!("{value:?}");
/// }
/// ```
pub struct Plaintext<'b>(&'b mut [u8]);

impl Plaintext<'_> {
    /// The value itself. What is copied out of here is the caller's to zero.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0
    }
}

impl Drop for Plaintext<'_> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;
    use crate::{RootKey, RootKeyVersion, RootKeys, TenantId, TenantKeyVersion};
    use crate::{TokenId, TokenVersion};

    fn opener(plaintext: &[u8]) -> Opener {
        let context = ValueContext {
            tenant: TenantId::generate(&SystemRandom).unwrap(),
            token: TokenId::generate(&SystemRandom).unwrap(),
            version: TokenVersion::FIRST,
            column: "value",
        };
        let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
        let (tenant_key, _) = RootKeys::new([root])
            .unwrap()
            .new_tenant_key(context.tenant, TenantKeyVersion::FIRST, &SystemRandom)
            .unwrap();
        let (fresh, wrapped) = tenant_key
            .new_data_key(context.token, context.version, &SystemRandom)
            .unwrap();
        let sealed = fresh
            .seal_value(&context, plaintext, &SystemRandom)
            .unwrap();
        let key = tenant_key
            .open_data_key(context.token, context.version, &wrapped)
            .unwrap();
        Opener::new(&key, &context, sealed).unwrap()
    }

    #[test]
    fn values_of_any_length_open_one_after_another() {
        let mut buffer = PlainBuffer::new();
        for plaintext in [&b"hunter2"[..], b"", &[9; 32_768], b"x"] {
            assert_eq!(
                opener(plaintext).open(&mut buffer).unwrap().expose(),
                plaintext
            );
        }
    }

    #[test]
    fn the_buffer_holds_zeros_once_the_value_is_dropped() {
        let opener = opener(b"hunter2");
        let mut buffer = PlainBuffer::new();
        let value = opener.open(&mut buffer).unwrap();
        assert_eq!(value.expose(), b"hunter2");
        drop(value);
        assert_eq!(buffer.0, [0; 7]);
    }

    #[test]
    fn a_failed_open_leaves_zeros() {
        let mut opener = opener(b"hunter2");
        opener.sealed[20] ^= 1;
        let mut buffer = PlainBuffer::with_capacity(64);
        assert!(opener.open(&mut buffer).is_err());
        assert_eq!(buffer.0, [0; 64]);
    }

    #[test]
    fn a_buffer_with_room_does_not_move_or_grow() {
        let opener = opener(&[9; 64]);
        let mut buffer = PlainBuffer::with_capacity(64);
        let before = (buffer.0.as_ptr(), buffer.0.capacity());
        for _ in 0..10 {
            assert_eq!(opener.open(&mut buffer).unwrap().expose(), [9; 64]);
        }
        assert_eq!((buffer.0.as_ptr(), buffer.0.capacity()), before);
    }

    #[test]
    fn an_opener_can_be_shared_between_threads() {
        let opener = opener(b"hunter2");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut buffer = PlainBuffer::new();
                    assert_eq!(opener.open(&mut buffer).unwrap().expose(), b"hunter2");
                });
            }
        });
    }
}
