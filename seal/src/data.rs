//! Data keys: wrapped by a tenant key, encrypt one value each.

use aws_lc_rs::aead::LessSafeKey;

use crate::blob::{self, BlobError, Ciphertext, WrappedKey};
use crate::fields::Fields;
use crate::key::{KEY_BYTES, Key, LibraryError};
use crate::random::Random;
use crate::secret::Secret;
use crate::tenant::TenantKey;
use crate::versions::{TenantKeyVersion, TokenVersion};
use crate::{TenantId, TokenId};

/// Why there is no data key or no value.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum DataKeyError {
    /// The wrapped key does not open.
    #[error(
        "the data key of version {version} of token {token} does not open under tenant key \
         version {tenant_key}: {reason}; restore its row from a backup or store the token anew"
    )]
    OpenKey {
        /// Whose key.
        token: TokenId,
        /// Which version of the token.
        version: TokenVersion,
        /// The tenant key it should open under.
        tenant_key: TenantKeyVersion,
        /// What is wrong with the bytes.
        reason: BlobError,
    },
    /// The value does not open.
    #[error(
        "the value of version {version} of token {token} does not open: {reason}; restore its row \
         from a backup or store the token anew"
    )]
    OpenValue {
        /// Whose value.
        token: TokenId,
        /// Which version of the token.
        version: TokenVersion,
        /// What is wrong with the bytes.
        reason: BlobError,
    },
    /// A data key in plain form of a wrong length.
    #[error("a data key of {length} bytes was received; a data key has 32")]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// The database column that holds sealed values, as it is bound into their
/// associated data.
pub const VALUE_COLUMN: &str = "ciphertext";

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValueContext {
    /// Whose token.
    pub tenant: TenantId,
    /// The token.
    pub token: TokenId,
    /// The version of its value.
    pub version: TokenVersion,
    /// The database column that holds the sealed value: [`VALUE_COLUMN`].
    pub column: &'static str,
}

impl ValueContext {
    pub(crate) fn place(&self) -> Fields {
        Fields::new("bursar value")
            .uuid(self.tenant.as_uuid())
            .uuid(self.token.as_uuid())
            .u32(self.version.get())
            .text(self.column)
    }

    pub(crate) fn unopened(&self, reason: BlobError) -> DataKeyError {
        DataKeyError::OpenValue {
            token: self.token,
            version: self.version,
            reason,
        }
    }
}

/// A data key that has encrypted nothing yet. Sealing consumes it, so that a
/// data key encrypts once.
///
/// ```compile_fail,E0382
/// # use bursar_seal::*;
/// fn twice(key: FreshDataKey, context: &ValueContext, random: &dyn Random) {
///     let _ = key.seal_value(context, b"one", random);
///     let _ = key.seal_value(context, b"two", random);
/// }
/// ```
pub struct FreshDataKey(Key);

impl FreshDataKey {
    /// Seals the one value of this key.
    ///
    /// # Errors
    /// [`DataKeyError::Library`] when `random` fails; the key is gone then, and
    /// the caller makes another.
    pub fn seal_value(
        self,
        context: &ValueContext,
        plaintext: &[u8],
        random: &dyn Random,
    ) -> Result<Ciphertext, DataKeyError> {
        let blob = blob::seal(&self.0.to_aead()?, &context.place(), plaintext, random)?;
        Ok(Ciphertext::from(blob))
    }
}

/// A data key that opens its value and cannot seal another.
///
/// ```compile_fail,E0599
/// # use bursar_seal::*;
/// fn again(key: DataKey, context: &ValueContext, random: &dyn Random) {
///     let _ = key.seal_value(context, b"two", random);
/// }
/// ```
///
/// ```compile_fail,E0277
/// let key = bursar_seal::DataKey::from_bytes(&[0; 32]);
/// println!("{key:?}");
/// ```
pub struct DataKey(Key);

impl DataKey {
    /// Takes a data key that came through an encrypted channel. The caller
    /// zeroes its own copy.
    ///
    /// # Errors
    /// [`DataKeyError::Length`] unless `bytes` are 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DataKeyError> {
        let length = bytes.len();
        Key::from_bytes(bytes)
            .map(Self)
            .ok_or(DataKeyError::Length { length })
    }

    /// The key itself, to be sent through an encrypted channel and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }

    /// Opens the value that was sealed under this key for `context`. For many
    /// reads of one value there is [`Opener`](crate::Opener).
    ///
    /// # Errors
    /// [`DataKeyError::OpenValue`] when it is another value, another place or
    /// changed bytes.
    pub fn open_value(
        &self,
        context: &ValueContext,
        sealed: &Ciphertext,
    ) -> Result<Secret, DataKeyError> {
        let sealed = sealed.as_bytes();
        let length = blob::plaintext_len(sealed).map_err(|reason| context.unopened(reason))?;
        let mut plaintext = vec![0; length];
        blob::open(
            &self.to_aead()?,
            context.place().as_bytes(),
            sealed,
            &mut plaintext,
        )
        .map_err(|reason| context.unopened(reason))?;
        Ok(Secret::from(plaintext))
    }

    pub(crate) fn to_aead(&self) -> Result<LessSafeKey, LibraryError> {
        self.0.to_aead()
    }
}

fn place(tenant_key: TenantKeyVersion, token: TokenId, version: TokenVersion) -> Fields {
    Fields::new("bursar data key")
        .u32(tenant_key.get())
        .uuid(token.as_uuid())
        .u32(version.get())
}

impl TenantKey {
    /// Makes the data key of one version of a token.
    ///
    /// # Errors
    /// [`DataKeyError::Library`] when `random` fails.
    pub fn new_data_key(
        &self,
        token: TokenId,
        version: TokenVersion,
        random: &dyn Random,
    ) -> Result<(FreshDataKey, WrappedKey), DataKeyError> {
        let key = Key::generate(random).map_err(LibraryError::from)?;
        let place = place(self.version(), token, version);
        let wrapped = WrappedKey::seal(self.data_wrapping(), &place, &key, random)?;
        Ok((FreshDataKey(key), wrapped))
    }

    /// Opens the data key of one version of a token.
    ///
    /// # Errors
    /// [`DataKeyError::OpenKey`] when the bytes are not the data key of this
    /// version of this token under this version of the tenant key.
    pub fn open_data_key(
        &self,
        token: TokenId,
        version: TokenVersion,
        wrapped: &WrappedKey,
    ) -> Result<DataKey, DataKeyError> {
        let tenant_key = self.version();
        wrapped
            .open(self.data_wrapping(), &place(tenant_key, token, version))
            .map(DataKey)
            .map_err(|reason| DataKeyError::OpenKey {
                token,
                version,
                tenant_key,
                reason,
            })
    }
}
