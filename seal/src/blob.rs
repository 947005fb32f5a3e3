//! Sealed bytes: AES-256-GCM with a random nonce, behind a format byte.
//!
//! `format byte (1) | nonce (12) | ciphertext (as long as the plaintext) | tag (16)`

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};

use crate::fields::{FORMAT, Fields};
use crate::key::{KEY_BYTES, Key, LibraryError};
use crate::random::Random;

const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 1 + NONCE_LEN;

/// Bytes that sealing adds to a plaintext.
pub(crate) const OVERHEAD: usize = HEADER_LEN + TAG_LEN;

/// Why sealed bytes did not open. All three mean that what was stored is not
/// what was sealed for this place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BlobError {
    /// Shorter than an empty plaintext would be.
    #[error("the sealed bytes are cut short")]
    Truncated,
    /// Written by a newer release, or not by this program.
    #[error("the sealed bytes have a format that this release does not know")]
    UnknownFormat,
    /// Another key, another place, or changed bytes.
    #[error("the sealed bytes are not authentic for this key and place")]
    NotAuthentic,
}

macro_rules! blob {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// The bytes to store.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The bytes to store.
            #[must_use]
            pub fn into_bytes(self) -> Vec<u8> {
                self.0
            }
        }

        impl From<Vec<u8>> for $name {
            /// Takes stored bytes as they are; opening them tells whether they
            /// are any good.
            fn from(bytes: Vec<u8>) -> Self {
                Self(bytes)
            }
        }
    };
}

blob!(
    /// A key sealed under the key above it; 61 bytes.
    WrappedKey
);

blob!(
    /// A value sealed under its data key; 29 bytes longer than the value.
    Ciphertext
);

impl WrappedKey {
    /// Seals `key` under `wrapping`, bound to `place`.
    pub(crate) fn seal(
        wrapping: &LessSafeKey,
        place: &Fields,
        key: &Key,
        random: &dyn Random,
    ) -> Result<Self, LibraryError> {
        seal(wrapping, place, key.as_bytes(), random).map(Self)
    }

    /// Opens the key that was sealed under `wrapping` for `place`.
    pub(crate) fn open(&self, wrapping: &LessSafeKey, place: &Fields) -> Result<Key, BlobError> {
        if plaintext_len(&self.0)? != KEY_BYTES {
            return Err(BlobError::NotAuthentic);
        }
        Key::fill_with(|key| open(wrapping, place.as_bytes(), &self.0, key))
    }
}

/// Seals `plaintext`, bound to `place`.
pub(crate) fn seal(
    key: &LessSafeKey,
    place: &Fields,
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, LibraryError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce)?;

    let mut blob = vec![0; plaintext.len() + OVERHEAD];
    let (header, body) = blob.split_at_mut(HEADER_LEN);
    header[0] = FORMAT;
    header[1..].copy_from_slice(&nonce);
    let (ciphertext, tag) = body.split_at_mut(plaintext.len());

    // Not in place: so the plaintext is never copied to where it would have to
    // be zeroed.
    key.seal_out_of_place_scatter(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(place.as_bytes()),
        plaintext,
        ciphertext,
        &[],
        tag,
    )
    .map_err(|_| LibraryError::Encrypt)?;
    Ok(blob)
}

/// How long the plaintext of `blob` is, in bytes.
pub(crate) fn plaintext_len(blob: &[u8]) -> Result<usize, BlobError> {
    blob.len().checked_sub(OVERHEAD).ok_or(BlobError::Truncated)
}

/// Opens `blob` into `out`, which is [`plaintext_len`] bytes long. A failure
/// writes nothing but zeros there.
pub(crate) fn open(
    key: &LessSafeKey,
    place: &[u8],
    blob: &[u8],
    out: &mut [u8],
) -> Result<(), BlobError> {
    let ciphertext_len = plaintext_len(blob)?;
    let (header, body) = blob.split_at(HEADER_LEN);
    if header[0] != FORMAT {
        return Err(BlobError::UnknownFormat);
    }
    let nonce = Nonce::try_assume_unique_for_key(&header[1..]).map_err(|_| BlobError::Truncated)?;
    let (ciphertext, tag) = body.split_at(ciphertext_len);
    key.open_separate_gather(nonce, Aad::from(place), ciphertext, tag, out)
        .map_err(|_| {
            // The library leaves open what it has written by then.
            out.fill(0);
            BlobError::NotAuthentic
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn sealed(plaintext: &[u8]) -> (LessSafeKey, Fields, Vec<u8>) {
        let key = Key::generate(&SystemRandom).unwrap().to_aead().unwrap();
        let place = Fields::new("test").text("here");
        let blob = seal(&key, &place, plaintext, &SystemRandom).unwrap();
        (key, place, blob)
    }

    fn try_open(key: &LessSafeKey, place: &Fields, blob: &[u8]) -> Result<Vec<u8>, BlobError> {
        let mut out = vec![0; plaintext_len(blob)?];
        let opened = open(key, place.as_bytes(), blob, &mut out);
        if opened.is_err() {
            assert!(
                out.iter().all(|byte| *byte == 0),
                "a failure left bytes behind"
            );
        }
        opened.map(|()| out)
    }

    #[test]
    fn what_was_sealed_opens() {
        for plaintext in [&b""[..], b"x", &[7; 32_768]] {
            let (key, place, blob) = sealed(plaintext);
            assert_eq!(blob.len(), plaintext.len() + 29);
            assert_eq!(try_open(&key, &place, &blob).unwrap(), plaintext);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, place, blob) = sealed(b"hunter2");
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 8 {
                BlobError::UnknownFormat
            } else {
                BlobError::NotAuthentic
            };
            assert_eq!(try_open(&key, &place, &changed), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let (key, place, blob) = sealed(b"hunter2");
        for length in 0..blob.len() {
            let expected = if length < OVERHEAD {
                BlobError::Truncated
            } else {
                BlobError::NotAuthentic
            };
            assert_eq!(
                try_open(&key, &place, &blob[..length]),
                Err(expected),
                "{length} bytes"
            );
        }
        let mut longer = blob;
        longer.push(0);
        assert_eq!(
            try_open(&key, &place, &longer),
            Err(BlobError::NotAuthentic)
        );
    }

    #[test]
    fn another_place_or_key_does_not_open() {
        let (key, place, blob) = sealed(b"hunter2");
        let (other_key, ..) = sealed(b"");
        assert_eq!(
            try_open(&other_key, &place, &blob),
            Err(BlobError::NotAuthentic)
        );
        for elsewhere in [
            Fields::new("test").text("there"),
            Fields::new("tesu").text("here"),
            Fields::new("test").text("here").text(""),
            Fields::new("test"),
        ] {
            assert_eq!(
                try_open(&key, &elsewhere, &blob),
                Err(BlobError::NotAuthentic)
            );
        }
    }

    #[test]
    fn a_wrapped_key_has_exactly_a_key_inside() {
        let (key, place, blob) = sealed(&[7; 31]);
        let wrapped = WrappedKey::from(blob);
        assert_eq!(
            wrapped.open(&key, &place).err(),
            Some(BlobError::NotAuthentic)
        );
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        let (key, place, first) = sealed(b"hunter2");
        assert_ne!(
            first,
            seal(&key, &place, b"hunter2", &SystemRandom).unwrap()
        );
    }
}
