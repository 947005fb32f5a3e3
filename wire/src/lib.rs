//! The protocols of the vault, with brokers and with people, and the TLS they travel in.
//!
//! This crate knows messages and transport, and nothing of what they mean: no
//! database, no Kubernetes, no keys but those of TLS. Both sides build on it,
//! so that they cannot disagree on the protocol version, the names of the
//! metadata entries, or the digest of a report.

pub mod digest;
pub mod metadata;
pub mod people;
pub mod tls;

/// The generated messages, client and server.
#[expect(
    missing_docs,
    reason = "generated code; the proto file has the documentation"
)]
#[expect(clippy::all, reason = "generated code")]
pub mod v1alpha1 {
    tonic::include_proto!("bursar.vault.v1alpha1");
}

/// The most records, and the most closed allowances, of one report.
pub const LARGEST_REPORT: usize = 4_000;

/// The most denials that a broker reports one by one in an hour; those beyond are
/// only counted.
pub const DENIALS_AN_HOUR: u16 = 256;

/// The most used-up quotas that a broker names in one denial.
pub const QUOTAS_TOLD: usize = 2;

/// The oldest protocol version this build speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol version this build speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// The highest version both ranges (inclusive) have in common.
pub fn common_protocol(ours: (u32, u32), theirs: (u32, u32)) -> Option<u32> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

#[cfg(test)]
mod tests {
    use super::common_protocol;

    #[test]
    fn the_highest_common_protocol_is_spoken() {
        assert_eq!(common_protocol((1, 3), (2, 5)), Some(3));
        assert_eq!(common_protocol((2, 5), (1, 3)), Some(3));
        assert_eq!(common_protocol((1, 1), (1, 1)), Some(1));
    }

    #[test]
    fn ranges_apart_have_no_common_protocol() {
        assert_eq!(common_protocol((1, 2), (3, 4)), None);
        assert_eq!(common_protocol((3, 4), (1, 2)), None);
        assert_eq!(common_protocol((1, 2), (2, 1)), None);
    }
}
