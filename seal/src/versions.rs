//! Version numbers of keys and tokens: whole numbers from 1 that fit a Postgres
//! `integer`.

use std::fmt;
use std::str::FromStr;

/// A number that is no version.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a {0} is a whole number from 1 to 2147483647, written without sign or leading zeros")]
pub struct VersionError(&'static str);

macro_rules! version {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u32);

        impl $name {
            /// The first version.
            pub const FIRST: Self = Self(1);

            /// The number, from 1.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// The version after this one; none after the last.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).and_then(|n| Self::try_from(n).ok())
            }
        }

        impl TryFrom<i32> for $name {
            type Error = VersionError;

            fn try_from(number: i32) -> Result<Self, VersionError> {
                match u32::try_from(number) {
                    Ok(number) if number >= 1 => Ok(Self(number)),
                    _ => Err(VersionError($what)),
                }
            }
        }

        impl TryFrom<u32> for $name {
            type Error = VersionError;

            fn try_from(number: u32) -> Result<Self, VersionError> {
                i32::try_from(number).map_err(|_| VersionError($what))?.try_into()
            }
        }

        impl TryFrom<i64> for $name {
            type Error = VersionError;

            fn try_from(number: i64) -> Result<Self, VersionError> {
                i32::try_from(number).map_err(|_| VersionError($what))?.try_into()
            }
        }

        impl From<$name> for u32 {
            fn from(version: $name) -> Self {
                version.0
            }
        }

        impl From<$name> for i32 {
            fn from(version: $name) -> Self {
                // Lossless: every constructor keeps the number within i32.
                version.0.cast_signed()
            }
        }

        impl From<$name> for i64 {
            fn from(version: $name) -> Self {
                version.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = VersionError;

            fn from_str(text: &str) -> Result<Self, VersionError> {
                // One spelling per version: "1" and "01" must not be two keys
                // of one Secret.
                text.parse::<u32>()
                    .ok()
                    .filter(|number| number.to_string() == text)
                    .ok_or(VersionError($what))?
                    .try_into()
            }
        }
    };
}

version!(
    /// The version of a root key: the key's name in the Secret.
    RootKeyVersion,
    "root key version"
);

version!(
    /// The version of a tenant's key.
    TenantKeyVersion,
    "tenant key version"
);

version!(
    /// The version of a tenant secret, counted for each [`KeyPurpose`](crate::KeyPurpose).
    SecretVersion,
    "tenant secret version"
);

version!(
    /// The version of a token's value.
    TokenVersion,
    "token version"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_start_at_one_and_fit_a_postgres_integer() {
        for good in [1_i64, 2, 2_147_483_647] {
            let version = TokenVersion::try_from(good).unwrap();
            assert_eq!(i64::from(version), good);
            assert_eq!(i64::from(i32::from(version)), good);
            assert_eq!(version.to_string().parse(), Ok(version));
        }
        for bad in [i64::MIN, -1, 0, 2_147_483_648, i64::MAX] {
            assert!(TokenVersion::try_from(bad).is_err(), "{bad}");
        }
        assert!(TokenVersion::try_from(0_u32).is_err());
        assert!(TokenVersion::try_from(-1_i32).is_err());
        assert!(TokenVersion::try_from(u32::MAX).is_err());
    }

    #[test]
    fn a_version_has_one_spelling() {
        for bad in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "one",
            "2147483648",
        ] {
            assert!(bad.parse::<RootKeyVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_version_has_no_next() {
        let last = TokenVersion::try_from(i32::MAX).unwrap();
        assert_eq!(last.next(), None);
        assert_eq!(TokenVersion::FIRST.next(), TokenVersion::try_from(2).ok());
    }
}
