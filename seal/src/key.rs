//! 256-bit keys: made, derived, zeroed.

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::fields::Fields;
use crate::random::{Random, RandomError};

/// Bytes in every key here.
pub(crate) const KEY_BYTES: usize = 32;

/// The random source or the cryptographic library failed, whatever the input.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum LibraryError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// A key of the right length was refused.
    #[error("the cryptographic library could not set up a key; check the memory limit")]
    Key,
    /// A derivation of the right length was refused.
    #[error("the cryptographic library could not derive a key; check the memory limit")]
    Derive,
    /// An encryption was refused.
    #[error("the cryptographic library could not encrypt; check the memory limit")]
    Encrypt,
}

/// A key in plain form. It lives on the heap so that moving its owner leaves no
/// copy behind, and is zeroed on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Key(Box<[u8; KEY_BYTES]>);

impl Key {
    /// A key written in place by `fill`.
    pub(crate) fn fill_with<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self(Box::new([0; KEY_BYTES]));
        fill(&mut key.0[..])?;
        Ok(key)
    }

    pub(crate) fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        Self::fill_with(|key| random.fill(key))
    }

    /// None unless `bytes` are exactly [`KEY_BYTES`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let mut key = Self(Box::new([0; KEY_BYTES]));
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// HKDF-SHA256 (RFC 5869) without salt, which a uniformly random key does
    /// not need; `info` says what the derived key is for and whose it is.
    pub(crate) fn derive(&self, info: &Fields) -> Result<Self, LibraryError> {
        let extracted = hkdf::Salt::none(hkdf::HKDF_SHA256).extract(self.as_bytes());
        Self::fill_with(|derived| {
            extracted
                .expand(&[info.as_bytes()], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(derived))
                .map_err(|_| LibraryError::Derive)
        })
    }

    /// The key made ready for AES-256-GCM. The library zeroes its own copy when
    /// it frees it.
    pub(crate) fn to_aead(&self) -> Result<LessSafeKey, LibraryError> {
        UnboundKey::new(&AES_256_GCM, self.as_bytes())
            .map(LessSafeKey::new)
            .map_err(|_| LibraryError::Key)
    }

    /// The key made ready for HMAC-SHA256.
    pub(crate) fn to_hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.as_bytes())
    }
}

/// HMAC-SHA256 as an array.
pub(crate) fn hmac_sha256(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    let mut mac = [0; 32];
    mac.copy_from_slice(hmac::sign(key, message).as_ref());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn a_key_is_zeroed_on_drop() {
        fn zeroes_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut key = Key::generate(&SystemRandom).unwrap();
        zeroes_on_drop(&key);
        assert_ne!(key.as_bytes(), &[0; KEY_BYTES]);
        key.zeroize();
        assert_eq!(key.as_bytes(), &[0; KEY_BYTES]);
    }

    #[test]
    fn a_key_has_exactly_32_bytes() {
        for length in [0, 16, 31, 33, 64] {
            assert!(Key::from_bytes(&vec![7; length]).is_none(), "{length}");
        }
        assert_eq!(Key::from_bytes(&[7; 32]).unwrap().as_bytes(), &[7; 32]);
    }

    #[test]
    fn a_failing_generator_makes_no_key() {
        struct Broken;
        impl Random for Broken {
            fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
                Err(RandomError)
            }
        }
        assert!(Key::generate(&Broken).is_err());
    }
}
