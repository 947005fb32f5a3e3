//! Verifying each token once: the signature costs more than the whole rest of a
//! request, and workloads show the same token for minutes.

use std::collections::HashMap;

use bursar_wire::v1alpha1::WorkloadIssuer;

use super::JwtError;
use super::verifier::{PodIdentity, VerifierError, WorkloadVerifier};
use crate::clock::UnixMillis;

/// How many verified tokens are remembered. A pod has a handful.
const MOST: usize = 256;

/// Bytes at a token's end by which it is looked up: 48 bytes of its signature in
/// base64. Nobody can choose them, and who does not have them comes to no
/// comparison of the rest, so its time tells nothing.
const KEY_BYTES: usize = 64;

/// Tells callers of this pod from all others.
///
/// A remembered token is looked up by the end of its signature, hashed under a
/// random key (the map's own hasher, SipHash), and then compared in full. Only
/// tokens whose signature was good are remembered, so nobody else can fill the
/// map.
pub(crate) struct Authenticator {
    verifier: WorkloadVerifier,
    remembered: HashMap<Key, Remembered>,
}

type Key = [u8; KEY_BYTES];

/// A token that was verified.
struct Remembered {
    token: Box<[u8]>,
    expires: UnixMillis,
}

/// How a token was found good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Authenticated {
    /// It was remembered.
    Remembered,
    /// Its signature was verified.
    Verified,
}

impl Authenticator {
    /// An authenticator for tokens of `pod` that `issuer` has signed, with
    /// nothing remembered.
    ///
    /// # Errors
    /// When an issuer, a usable key or part of the pod's identity is missing.
    pub(crate) fn new(issuer: &WorkloadIssuer, pod: PodIdentity) -> Result<Self, VerifierError> {
        let verifier = WorkloadVerifier::new(issuer, pod)?;
        Ok(Self {
            verifier,
            remembered: HashMap::new(),
        })
    }

    /// Verifies `token`, or remembers having done so before it expired.
    ///
    /// # Errors
    /// [`JwtError`] when the token is not this pod's or not good now.
    pub(crate) fn authenticate(
        &mut self,
        token: &[u8],
        now: UnixMillis,
    ) -> Result<Authenticated, JwtError> {
        // No real token is so short.
        let key: &Key = token.last_chunk().ok_or(JwtError::Invalid)?;
        if let Some(remembered) = self.remembered.get(key)
            && *remembered.token == *token
            && now < remembered.expires
        {
            return Ok(Authenticated::Remembered);
        }
        let text = std::str::from_utf8(token).map_err(|_| JwtError::Invalid)?;
        let expires = self.verifier.verify(text, now)?;
        if self.remembered.len() >= MOST {
            self.remembered
                .retain(|_, remembered| now < remembered.expires);
        }
        if self.remembered.len() >= MOST {
            // All good and all in use: forgetting them costs a signature each.
            self.remembered.clear();
        }
        let token = token.into();
        self.remembered.insert(*key, Remembered { token, expires });
        Ok(Authenticated::Verified)
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.remembered.len()
    }
}
