//! Bytes that must not leak.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret in plain form, zeroed when dropped.
///
/// It has no `Debug`, `Display`, `Serialize` or `Clone`: whoever writes it
/// somewhere says so with [`expose`](Self::expose).
///
/// ```compile_fail,E0277
/// let secret = bursar_seal::Secret::from(vec![1, 2, 3]);
/// println!("{secret:?}");
/// ```
///
/// ```compile_fail,E0277
/// let secret = bursar_seal::Secret::from(vec![1, 2, 3]);
/// println!("{secret}");
/// ```
///
/// ```compile_fail,E0599
/// let secret = bursar_seal::Secret::from(vec![1, 2, 3]);
/// let copy = secret.clone();
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret itself. What is copied out of here is the caller's to zero.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    /// Takes the bytes over without a copy. A `Vec` that has grown on the way
    /// left copies behind: give it its capacity first.
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_zeroed_on_drop() {
        fn zeroes_on_drop<T: ZeroizeOnDrop>(_: &T) {}
        let mut secret = Secret::from(b"hunter2".to_vec());
        zeroes_on_drop(&secret);
        secret.zeroize();
        assert!(secret.expose().is_empty());
    }
}
