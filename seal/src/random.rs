//! Randomness as a parameter.

/// A source of bytes that an attacker cannot predict.
///
/// Everything here that needs fresh keys, nonces or ids takes one of these, so
/// that test vectors can be made from a known sequence.
pub trait Random: Send + Sync {
    /// Fills all of `out`.
    ///
    /// # Errors
    /// [`RandomError`] when the source has nothing to give; `out` must then not
    /// be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError>;
}

/// The operating system's generator, as the cryptographic library seeds it.
///
/// Only `main` makes one; all other code is handed a [`Random`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::fill(out).map_err(|_| RandomError)
    }
}

/// The generator failed. A process that meets this can make no keys and should
/// refuse the work at hand; what it already holds stays readable.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the random number generator failed; check that the system can give entropy")]
pub struct RandomError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRandom.fill(&mut a).unwrap();
        SystemRandom.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }
}
