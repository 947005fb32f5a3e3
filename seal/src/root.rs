//! Root keys: made by the installer, wrap one key per tenant.

use std::collections::BTreeMap;

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::fields::{FORMAT, Fields};
use crate::key::{Key, LibraryError};
use crate::versions::RootKeyVersion;

/// What is wrong with the root keys.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Not 32 bytes.
    #[error("root key version {version} has {length} bytes; a root key is 32 random bytes")]
    Length {
        /// The key.
        version: RootKeyVersion,
        /// Its length in bytes.
        length: usize,
    },
    /// No key at all.
    #[error("there is no root key; store 32 random bytes as version 1")]
    None,
    /// Two keys of one version.
    #[error("root key version {version} is given twice; give each version once")]
    Duplicate {
        /// The version.
        version: RootKeyVersion,
    },
    /// A version that is not in the set.
    #[error("root key version {version} is in use but not given; add it to the root keys")]
    Unknown {
        /// The version.
        version: RootKeyVersion,
    },
    /// The key is not the one that the check value was made with.
    #[error(
        "root key version {version} is not the key that the data was encrypted with; \
         restore the right key under this version"
    )]
    Wrong {
        /// The version.
        version: RootKeyVersion,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// One version of the root key.
///
/// The key itself encrypts nothing: what wraps tenant keys and what proves that
/// the key is the right one are derived from it.
pub struct RootKey {
    version: RootKeyVersion,
    wrapping: LessSafeKey,
    check: Key,
}

impl RootKey {
    /// Takes the 32 bytes of a root key. The caller zeroes its own copy.
    ///
    /// # Errors
    /// [`RootKeyError::Length`] for any other number of bytes.
    pub fn from_bytes(version: RootKeyVersion, bytes: &[u8]) -> Result<Self, RootKeyError> {
        let length = bytes.len();
        let key = Key::from_bytes(bytes).ok_or(RootKeyError::Length { version, length })?;
        let derive = |label| key.derive(&Fields::new(label).u32(version.get()));
        Ok(Self {
            version,
            wrapping: derive("bursar root key: wrap tenant keys")?.to_aead()?,
            check: derive("bursar root key: check value")?,
        })
    }
}

/// All root keys: the newest wraps, any of them opens.
pub struct RootKeys {
    keys: BTreeMap<RootKeyVersion, RootKey>,
    newest: RootKeyVersion,
}

impl RootKeys {
    /// Gathers the root keys.
    ///
    /// # Errors
    /// [`RootKeyError::None`] without a key, [`RootKeyError::Duplicate`] when
    /// two have one version.
    pub fn new(keys: impl IntoIterator<Item = RootKey>) -> Result<Self, RootKeyError> {
        let mut by_version = BTreeMap::new();
        for key in keys {
            let version = key.version;
            if by_version.insert(version, key).is_some() {
                return Err(RootKeyError::Duplicate { version });
            }
        }
        let newest = *by_version.keys().next_back().ok_or(RootKeyError::None)?;
        Ok(Self {
            keys: by_version,
            newest,
        })
    }

    /// The version that wraps.
    #[must_use]
    pub fn newest(&self) -> RootKeyVersion {
        self.newest
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = RootKeyVersion> {
        self.keys.keys().copied()
    }

    /// What to store beside data under this key, so that a wrong key is noticed
    /// before anything is written with it: 33 bytes, always the same for the
    /// same key and version, that tell nothing about it.
    ///
    /// # Errors
    /// [`RootKeyError::Unknown`] when there is no such version.
    pub fn check_value(&self, version: RootKeyVersion) -> Result<Vec<u8>, RootKeyError> {
        let check = &self.get(version)?.check;
        Ok([&[FORMAT], &check.as_bytes()[..]].concat())
    }

    /// Compares a stored [check value](Self::check_value) with the key of that
    /// version.
    ///
    /// # Errors
    /// [`RootKeyError::Unknown`] when there is no such version,
    /// [`RootKeyError::Wrong`] when it is not the same key.
    pub fn verify_check_value(
        &self,
        version: RootKeyVersion,
        stored: &[u8],
    ) -> Result<(), RootKeyError> {
        verify_slices_are_equal(&self.check_value(version)?, stored)
            .map_err(|_| RootKeyError::Wrong { version })
    }

    /// The wrapping key of one version.
    pub(crate) fn wrapping(&self, version: RootKeyVersion) -> Result<&LessSafeKey, RootKeyError> {
        Ok(&self.get(version)?.wrapping)
    }

    fn get(&self, version: RootKeyVersion) -> Result<&RootKey, RootKeyError> {
        self.keys
            .get(&version)
            .ok_or(RootKeyError::Unknown { version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> RootKeyVersion {
        RootKeyVersion::try_from(number).unwrap()
    }

    fn root_key(number: u32, byte: u8) -> RootKey {
        RootKey::from_bytes(version(number), &[byte; 32]).unwrap()
    }

    #[test]
    fn a_root_key_of_the_wrong_length_is_named_by_version_only() {
        let error = RootKey::from_bytes(version(3), b"hunter2")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("version 3 has 7 bytes"), "{error}");
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn the_newest_version_wraps_whatever_the_order() {
        let keys = RootKeys::new([root_key(10, 1), root_key(2, 2)]).unwrap();
        assert_eq!(keys.newest(), version(10));
        assert_eq!(
            keys.versions().collect::<Vec<_>>(),
            [version(2), version(10)]
        );
    }

    #[test]
    fn no_key_and_two_of_one_version_are_refused() {
        assert!(matches!(RootKeys::new([]), Err(RootKeyError::None)));
        assert!(matches!(
            RootKeys::new([root_key(1, 1), root_key(1, 2)]),
            Err(RootKeyError::Duplicate { version: v }) if v == version(1)
        ));
    }

    #[test]
    fn the_check_value_accepts_only_the_same_key_under_the_same_version() {
        let stored = RootKeys::new([root_key(1, 1)])
            .unwrap()
            .check_value(version(1))
            .unwrap();

        let same = RootKeys::new([root_key(1, 1), root_key(2, 1)]).unwrap();
        same.verify_check_value(version(1), &stored).unwrap();
        assert!(same.verify_check_value(version(2), &stored).is_err());

        let other = RootKeys::new([root_key(1, 2)]).unwrap();
        let error = other.verify_check_value(version(1), &stored).unwrap_err();
        assert!(matches!(error, RootKeyError::Wrong { version: v } if v == version(1)));

        let missing = other.verify_check_value(version(2), &stored).unwrap_err();
        assert!(matches!(missing, RootKeyError::Unknown { version: v } if v == version(2)));
    }

    #[test]
    fn a_damaged_check_value_is_refused() {
        let keys = RootKeys::new([root_key(1, 1)]).unwrap();
        let stored = keys.check_value(version(1)).unwrap();
        for at in 0..stored.len() {
            let mut changed = stored.clone();
            changed[at] ^= 1;
            assert!(
                keys.verify_check_value(version(1), &changed).is_err(),
                "byte {at}"
            );
        }
        assert!(keys.verify_check_value(version(1), &stored[..32]).is_err());
        assert!(keys.verify_check_value(version(1), &[]).is_err());
    }
}
