//! Verifying each token once: the signature costs more than the whole rest of a
//! request, and workloads show the same token for minutes.

use std::collections::HashMap;

use bursar_wire::v1alpha1::WorkloadIssuer;

use super::JwtError;
use super::verifier::{PodIdentity, VerifierError, WorkloadVerifier};
use crate::clock::UnixMillis;

/// How many verified tokens are remembered. A pod has a handful.
const MOST: usize = 256;

/// Tells callers of this pod from all others.
///
/// Tokens are looked up by a keyed hash of all of their bytes (the map's own
/// hasher, SipHash under a random key) and then compared in full. Only tokens
/// whose signature was good are remembered, so nobody else can fill the map.
pub(crate) struct Authenticator {
    verifier: WorkloadVerifier,
    /// Verified tokens and when they expire.
    verified: HashMap<Box<str>, UnixMillis>,
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
            verified: HashMap::new(),
        })
    }

    /// Verifies `token`, or remembers having done so before it expired.
    ///
    /// # Errors
    /// [`JwtError`] when the token is not this pod's or not good now.
    pub(crate) fn authenticate(
        &mut self,
        token: &str,
        now: UnixMillis,
    ) -> Result<Authenticated, JwtError> {
        if self
            .verified
            .get(token)
            .is_some_and(|expires| now < *expires)
        {
            return Ok(Authenticated::Remembered);
        }
        let expires = self.verifier.verify(token, now)?;
        if self.verified.len() >= MOST {
            self.verified.retain(|_, expires| now < *expires);
        }
        if self.verified.len() >= MOST {
            // All good and all in use: forgetting them costs a signature each.
            self.verified.clear();
        }
        self.verified.insert(token.into(), expires);
        Ok(Authenticated::Verified)
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.verified.len()
    }
}
