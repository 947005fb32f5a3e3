//! Random names and keys. A testbed is not meant to be repeatable down to its ports and
//! passwords, so here the system's randomness is not a parameter.

/// 32 random bytes.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn key() -> Result<[u8; 32], RandomError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// 8 random hexadecimal digits, for a name that nobody else uses.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn suffix() -> Result<String, RandomError> {
    Ok(hex::encode(&key()?[..4]))
}

/// 64 random hexadecimal digits.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn password() -> Result<String, RandomError> {
    Ok(hex::encode(key()?))
}

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct RandomError;
