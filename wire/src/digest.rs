//! The digest of a report: both sides compute it over the same bytes.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;

use crate::v1alpha1::{AccessRecord, Denial};

/// SHA-256 over the length-delimited records, then the length-prefixed ids, then
/// the length-delimited denials.
///
/// The counts come first, so that one of a kind can never pass for one of another.
/// That of the denials is there only with denials: a report without any has the
/// digest it had in the first releases of this protocol version, which knew of none.
pub fn report_digest(
    records: &[AccessRecord],
    closed_allowance_ids: &[String],
    denials: &[Denial],
) -> [u8; 32] {
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
    if !denials.is_empty() {
        context.update(&(denials.len() as u64).to_be_bytes());
    }
    for denial in denials {
        context.update(&denial.encode_length_delimited_to_vec());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::report_digest;
    use crate::v1alpha1::{AccessRecord, Denial};

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

    fn denial(code: &str) -> Denial {
        Denial {
            code: code.into(),
            ..Denial::default()
        }
    }

    /// What brokers send that were built before there were denials.
    #[test]
    fn a_report_without_denials_has_the_digest_it_always_had() {
        let digest = report_digest(&[record(1), record(2)], &["a".into(), "b".into()], &[]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "9feec462750bb6c258f312993f358fa4c5d752d979fbc79f9684d581a80a6075"
        );
    }

    #[test]
    fn a_digest_binds_every_record_closed_allowance_and_denial_in_order() {
        let (records, ids) = ([record(1), record(2)], ["a".into(), "b".into()]);
        let denials = [denial("Forbidden"), denial("NotFound")];
        let base = report_digest(&records, &ids, &denials);
        assert_eq!(base, report_digest(&records, &ids, &denials));
        let turned = [record(2), record(1)];
        let others = [
            report_digest(&turned, &ids, &denials),
            report_digest(&records[..1], &ids, &denials),
            report_digest(&records, &["b".into(), "a".into()], &denials),
            report_digest(&records, &["ab".into()], &denials),
            report_digest(&records, &ids, &denials[..1]),
            report_digest(&records, &ids, &[denials[1].clone(), denials[0].clone()]),
            report_digest(&records, &ids, &[]),
        ];
        for other in others {
            assert_ne!(base, other);
        }
    }
}
