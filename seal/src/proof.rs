//! Incarnation proofs: what a broker shows to attach again without another
//! token review.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::fields::Fields;
use crate::key::{Key, hmac_sha256};
use crate::tenant::TenantKey;

/// Why a proof was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// Made for another incarnation, pod, tenant or version of the tenant key,
    /// or made up.
    #[error("the proof of incarnation {incarnation} is not authentic; attach anew without it")]
    Mismatch {
        /// The incarnation that was claimed.
        incarnation: Uuid,
    },
}

/// The key that makes proofs, derived from one version of a tenant key.
pub(crate) struct ProofKey(hmac::Key);

impl ProofKey {
    pub(crate) fn new(key: &Key) -> Self {
        Self(key.to_hmac())
    }

    fn mac(&self, incarnation: Uuid, pod_uid: &str) -> [u8; 32] {
        let message = Fields::new("bursar incarnation")
            .uuid(incarnation)
            .text(pod_uid);
        hmac_sha256(&self.0, message.as_bytes())
    }
}

/// Shows that the vault issued an incarnation to this pod (HMAC-SHA256). Whoever
/// has it can claim the incarnation: it travels on the encrypted channel only,
/// is not printed, and is zeroed on drop.
///
/// ```compile_fail,E0277
/// fn print(proof: bursar_seal::IncarnationProof) {
///     println!("{proof:?}");
/// }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct IncarnationProof([u8; 32]);

impl IncarnationProof {
    /// The bytes to send.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TenantKey {
    /// The proof to hand to the pod that was given `incarnation`.
    #[must_use]
    pub fn incarnation_proof(&self, incarnation: Uuid, pod_uid: &str) -> IncarnationProof {
        IncarnationProof(self.proof_key().mac(incarnation, pod_uid))
    }

    /// Compares in constant time. A proof made under another version of the
    /// tenant key is refused; its pod then attaches as if for the first time.
    ///
    /// # Errors
    /// [`ProofError::Mismatch`] when it was not made for this incarnation and
    /// pod.
    pub fn verify_incarnation_proof(
        &self,
        incarnation: Uuid,
        pod_uid: &str,
        proof: &[u8],
    ) -> Result<(), ProofError> {
        let expected = self.incarnation_proof(incarnation, pod_uid);
        verify_slices_are_equal(expected.as_bytes(), proof)
            .map_err(|_| ProofError::Mismatch { incarnation })
    }
}
