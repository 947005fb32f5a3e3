//! The digest of a report: both sides compute it over the same bytes.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;

use crate::v1alpha1::AccessRecord;

/// SHA-256 over the length-delimited records, then the length-prefixed ids.
///
/// The counts come first, so that a record can never pass for an id.
pub fn report_digest(records: &[AccessRecord], closed_allowance_ids: &[String]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&(records.len() as u64).to_be_bytes());
    for record in records {
        context.update(&record.encode_length_delimited_to_vec());
    }
    context.update(&(closed_allowance_ids.len() as u64).to_be_bytes());
    for id in closed_allowance_ids {
        context.update(&(id.len() as u64).to_be_bytes());
        context.update(id.as_bytes());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::report_digest;
    use crate::v1alpha1::AccessRecord;

    fn record(count: u32) -> AccessRecord {
        AccessRecord {
            allowance_id: "a".into(),
            app_name: "app".into(),
            purpose: "purpose".into(),
            count,
            first_time_ms: 1,
            last_time_ms: 2,
        }
    }

    #[test]
    fn a_digest_binds_every_record_and_every_closed_allowance_in_order() {
        let base = report_digest(&[record(1), record(2)], &["a".into(), "b".into()]);
        assert_eq!(
            base,
            report_digest(&[record(1), record(2)], &["a".into(), "b".into()])
        );
        assert_ne!(
            base,
            report_digest(&[record(2), record(1)], &["a".into(), "b".into()])
        );
        assert_ne!(base, report_digest(&[record(1)], &["a".into(), "b".into()]));
        assert_ne!(
            base,
            report_digest(&[record(1), record(2)], &["b".into(), "a".into()])
        );
        assert_ne!(base, report_digest(&[record(1), record(2)], &["ab".into()]));
    }
}
