//! What the vault granted, checked before anything is served from it.

use std::time::Duration;

use bursar_seal::{
    Ciphertext, DataKey, DataKeyError, Opener, PlainBuffer, TenantId, TokenId, TokenVersion,
    VALUE_COLUMN, ValueContext, VersionError,
};
use bursar_wire::v1alpha1::Granted;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroize;

use super::answer::{Answer, Metadata};

/// What the vault granted.
pub(crate) struct Grant {
    pub(super) allowance_id: String,
    pub(super) version: (TokenId, TokenVersion),
    /// How long the lease is.
    pub(super) length: Duration,
    /// Never 0.
    pub(super) units: u32,
    /// When set, the vault lets the caller have the token for these alone.
    pub(super) purposes: Option<Vec<String>>,
    pub(super) value: Opener,
    pub(super) answer: Answer,
    /// Quotas count its accesses: others may wait for those that are not made.
    pub(super) counted: bool,
}

/// Why an answer of the vault gives no allowance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("the vault granted a token whose id is no UUID")]
    TokenId(#[from] uuid::Error),
    #[error("the vault granted a token version that is none: {0}")]
    Version(#[from] VersionError),
    #[error("the vault granted an allowance without units")]
    NoUnits,
    #[error("the vault granted a token with a time out of range: {0}")]
    Time(#[from] jiff::Error),
    #[error("{0}")]
    Value(#[from] DataKeyError),
    #[error("the value of version {version} of token {token} is not UTF-8; store the token anew")]
    NotUtf8 {
        token: TokenId,
        version: TokenVersion,
    },
    #[error("the answer's metadata cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Grant {
    /// Takes an answer of the vault to a caller of `tenant` who asked for a token of
    /// `user_id`. The value is opened once, so that a damaged one is found before it
    /// is counted as served.
    ///
    /// # Errors
    /// [`GrantError`] when the answer is malformed or the value does not open.
    pub(crate) fn new(
        mut granted: Granted,
        tenant: TenantId,
        user_id: &str,
        scratch: &mut PlainBuffer,
    ) -> Result<Self, GrantError> {
        let data_key = DataKey::from_bytes(&granted.data_key);
        granted.data_key.zeroize();
        let context = ValueContext {
            tenant,
            token: Uuid::parse_str(&granted.token_id)?.into(),
            version: TokenVersion::try_from(granted.version)?,
            column: VALUE_COLUMN,
        };
        if granted.units == 0 {
            return Err(GrantError::NoUnits);
        }
        let metadata = Metadata {
            user_id,
            name: &granted.token,
            provider: &granted.provider,
            version: granted.version,
            version_time: rfc3339(granted.version_time_ms)?,
            expiration_time: granted.expiration_time_ms.map(rfc3339).transpose()?,
        };
        let value = Opener::new(&data_key?, &context, Ciphertext::from(granted.ciphertext))?;
        let plaintext = value.open(scratch)?;
        let text = std::str::from_utf8(plaintext.expose()).map_err(|_| GrantError::NotUtf8 {
            token: context.token,
            version: context.version,
        })?;
        let answer = Answer::new(&metadata, text)?;
        drop(plaintext);
        Ok(Self {
            allowance_id: granted.allowance_id,
            version: (context.token, context.version),
            length: Duration::from_millis(granted.expires_in_ms),
            units: granted.units,
            purposes: granted.purposes.map(|restricted| restricted.purposes),
            value,
            answer,
            counted: granted.counted,
        })
    }
}

fn rfc3339(unix_millis: i64) -> Result<String, jiff::Error> {
    Timestamp::from_millisecond(unix_millis).map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowance::testing::{granted, tenant};

    fn take(granted: Granted) -> Result<Grant, GrantError> {
        Grant::new(granted, tenant(), "ana", &mut PlainBuffer::new())
    }

    #[test]
    fn a_value_of_another_place_or_with_a_changed_bit_is_never_served() {
        let changes: [fn(&mut Granted); 6] = [
            |granted| granted.ciphertext[20] ^= 1,
            |granted| granted.data_key[0] ^= 1,
            |granted| granted.data_key.truncate(31),
            |granted| granted.version += 1,
            |granted| granted.token_id = "7b0a6f1e-9c5d-4a62-8f3b-2d1c0e9a8b7c".to_owned(),
            |granted| granted.ciphertext.clear(),
        ];
        for change in changes {
            let mut changed = granted("a1", 3, b"s3cret");
            change(&mut changed);
            assert!(matches!(take(changed), Err(GrantError::Value(_))));
        }
    }

    #[test]
    fn a_malformed_grant_is_refused_with_its_reason() {
        let base = || granted("a1", 3, b"s3cret");
        let no_id = Granted {
            token_id: "no uuid".into(),
            ..base()
        };
        assert!(matches!(take(no_id), Err(GrantError::TokenId(_))));
        let no_version = Granted {
            version: 0,
            ..base()
        };
        assert!(matches!(take(no_version), Err(GrantError::Version(_))));
        let no_units = Granted { units: 0, ..base() };
        assert!(matches!(take(no_units), Err(GrantError::NoUnits)));
        let no_time = Granted {
            version_time_ms: i64::MAX,
            ..base()
        };
        assert!(matches!(take(no_time), Err(GrantError::Time(_))));
        let binary = granted("a1", 3, b"\xff\xfe");
        assert!(matches!(take(binary), Err(GrantError::NotUtf8 { .. })));
    }
}
