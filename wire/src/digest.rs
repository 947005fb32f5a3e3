//! The digest of a report: both sides compute it over the same bytes.

use aws_lc_rs::digest::{Context, SHA256};
use prost::Message;

use crate::v1alpha1::{AccessRecord, Denial};

/// SHA-256 over the length-delimited records, then the length-prefixed ids, then
/// the length-delimited denials.
///
/// The count of each kind comes first, so that one of a kind can never pass for one of
/// another.
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
    context.update(&(denials.len() as u64).to_be_bytes());
    for denial in denials {
        context.update(&denial.encode_length_delimited_to_vec());
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{SHA256, report_digest};
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

    /// As a client would compute it that was written from the protocol's text.
    #[test]
    fn a_digest_is_over_the_bytes_that_the_protocol_names() {
        let number = |number: u64| number.to_be_bytes().to_vec();
        let message = |message: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            message(&mut bytes);
            [vec![u8::try_from(bytes.len()).unwrap()], bytes].concat()
        };
        let record = |count| message(&|bytes| record(count).encode(bytes).unwrap());
        let denial = message(&|bytes| denial("Forbidden").encode(bytes).unwrap());
        let records = [number(2), record(1), record(2)].concat();
        let ids = [
            number(2),
            number(1),
            b"a".to_vec(),
            number(2),
            b"bc".to_vec(),
        ]
        .concat();
        for (denials, bytes) in [
            (vec![], number(0)),
            (
                vec![self::denial("Forbidden")],
                [number(1), denial].concat(),
            ),
        ] {
            let digest = report_digest(
                &[self::record(1), self::record(2)],
                &["a".into(), "bc".into()],
                &denials,
            );
            let bytes = [&records[..], &ids, &bytes].concat();
            assert_eq!(digest, aws_lc_rs::digest::digest(&SHA256, &bytes).as_ref());
        }
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
