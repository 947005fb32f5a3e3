//! Who and what a key belongs to. Ids are not secret: they may be printed.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::random::{Random, RandomError};

/// Text that is not a UUID where an id was expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a {0} is a UUID such as 67e55044-10b1-426f-9247-bb680e5fe0c8")]
pub struct IdError(&'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id (UUID version 4, RFC 9562).
            ///
            /// # Errors
            /// [`RandomError`] when `random` fails.
            pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
                let mut bytes = [0; 16];
                random.fill(&mut bytes)?;
                Ok(Self(uuid::Builder::from_random_bytes(bytes).into_uuid()))
            }

            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError($what))
            }
        }
    };
}

id!(
    /// A tenant: one life of one namespace. Issued by the vault, never taken
    /// from a name, so that a recreated namespace is another tenant.
    TenantId,
    "tenant id"
);

id!(
    /// A stored token, across all its versions.
    TokenId,
    "token id"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn an_id_survives_its_text() {
        let id = TenantId::generate(&SystemRandom).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.as_uuid().get_version_num(), 4);
    }

    #[test]
    fn a_bad_id_is_refused_without_being_quoted() {
        let error = "hunter2".parse::<TokenId>().unwrap_err().to_string();
        assert!(
            error.contains("token id") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
