//! Rows, records, fingerprints and proofs: whatever is changed is noticed.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use bursar_seal::{
    Random, RandomError, RootKey, RootKeyVersion, RootKeys, RowMacError, RowWriter, SecretVersion,
    SystemRandom, TenantId, TenantKey, TenantKeyVersion,
};
use uuid::Uuid;

fn root_keys() -> RootKeys {
    RootKeys::new([RootKey::from_bytes(RootKeyVersion::FIRST, &[1; 32]).unwrap()]).unwrap()
}

fn tenant_key() -> TenantKey {
    let tenant = TenantId::generate(&SystemRandom).unwrap();
    root_keys()
        .new_tenant_key(tenant, TenantKeyVersion::FIRST, &SystemRandom)
        .unwrap()
        .0
}

const ID: Uuid = Uuid::from_u128(7);

type Column = fn(RowWriter) -> RowWriter;

/// One column of each type, and beside it the same column changed.
const COLUMNS: [(Column, Column); 10] = [
    (|row| row.uuid(ID), |row| row.uuid(Uuid::from_u128(8))),
    (|row| row.text("ana"), |row| row.text("bo")),
    (|row| row.opt_text(Some("note")), |row| row.opt_text(None)),
    (|row| row.i64(5), |row| row.i64(-5)),
    (|row| row.opt_i64(Some(6)), |row| row.opt_i64(None)),
    (|row| row.bool(false), |row| row.bool(true)),
    (
        |row| row.texts(&["deploy", "read"]),
        |row| row.texts(&["deploy"]),
    ),
    (|row| row.bytes(&[1, 2]), |row| row.bytes(&[1, 3])),
    (|row| row.opt_bytes(Some(&[3])), |row| row.opt_bytes(None)),
    (|row| row.opt_uuid(Some(ID)), |row| row.opt_uuid(None)),
];

/// The row of those columns, one of them changed.
fn row_with(changed: Option<usize>) -> RowWriter {
    let columns = COLUMNS.into_iter().enumerate();
    columns.fold(RowWriter::new("example"), |row, (number, (same, other))| {
        if changed == Some(number) {
            other(row)
        } else {
            same(row)
        }
    })
}

fn row() -> RowWriter {
    row_with(None)
}

#[test]
fn an_unchanged_row_is_authentic() {
    let key = tenant_key();
    key.row_mac()
        .verify(&row(), &key.row_mac().mac(&row()))
        .unwrap();
}

#[test]
fn a_change_in_any_column_is_noticed_and_names_the_table() {
    let key = tenant_key();
    let stored = key.row_mac().mac(&row());
    for number in 0..COLUMNS.len() {
        assert_eq!(
            key.row_mac().verify(&row_with(Some(number)), &stored),
            Err(RowMacError::Mismatch { table: "example" }),
            "column {number}"
        );
    }
}

#[test]
fn rows_that_could_be_confused_differ() {
    let row = || RowWriter::new("example");
    let pairs = [
        (
            "order",
            row().text("a").text("b"),
            row().text("b").text("a"),
        ),
        (
            "border",
            row().text("ab").text("c"),
            row().text("a").text("bc"),
        ),
        (
            "null and empty text",
            row().opt_text(None),
            row().opt_text(Some("")),
        ),
        (
            "null and empty bytes",
            row().opt_bytes(None),
            row().opt_bytes(Some(&[])),
        ),
        ("null and no column", row().opt_text(None), row()),
        (
            "which one is null",
            row().opt_i64(None).opt_i64(Some(1)),
            row().opt_i64(Some(1)).opt_i64(None),
        ),
        ("text and bytes", row().text("a"), row().bytes(b"a")),
        (
            "number and its bytes",
            row().i64(1),
            row().bytes(&1_i64.to_be_bytes()),
        ),
        (
            "UUID and its bytes",
            row().uuid(ID),
            row().bytes(ID.as_bytes()),
        ),
        ("false and zero", row().bool(false), row().i64(0)),
        (
            "list border",
            row().texts(&["ab", "c"]),
            row().texts(&["a", "bc"]),
        ),
        (
            "list order",
            row().texts(&["a", "b"]),
            row().texts(&["b", "a"]),
        ),
        (
            "empty list and a list of nothing",
            row().texts::<&str>(&[]),
            row().texts(&[""]),
        ),
        (
            "one list and two",
            row().texts(&["a", "b"]),
            row().texts(&["a"]).texts(&["b"]),
        ),
        (
            "table",
            row().text("a"),
            RowWriter::new("examples").text("a"),
        ),
        (
            "table and column",
            RowWriter::new("a").text("b"),
            RowWriter::new("ab"),
        ),
    ];
    let key = tenant_key();
    for (what, one, other) in pairs {
        let mac = key.row_mac().mac(&one);
        key.row_mac().verify(&one, &mac).unwrap();
        assert!(key.row_mac().verify(&other, &mac).is_err(), "{what}");
    }
}

#[test]
fn a_present_column_is_the_same_whether_it_may_be_null_or_not() {
    let required = RowWriter::new("t").text("a").i64(1).bytes(&[2]).uuid(ID);
    let optional = RowWriter::new("t")
        .opt_text(Some("a"))
        .opt_i64(Some(1))
        .opt_bytes(Some(&[2]))
        .opt_uuid(Some(ID));
    assert_eq!(required.as_bytes(), optional.as_bytes());
}

#[test]
fn a_row_is_authentic_for_its_tenant_and_key_version_only() {
    /// The same key each time: only tenant and version differ.
    struct Same;
    impl Random for Same {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            out.fill(7);
            Ok(())
        }
    }
    let (a, b) = (Uuid::from_u128(1).into(), Uuid::from_u128(2).into());
    let second = TenantKeyVersion::try_from(2).unwrap();
    let key = |tenant, version| {
        root_keys()
            .new_tenant_key(tenant, version, &Same)
            .unwrap()
            .0
    };
    let mac = key(a, TenantKeyVersion::FIRST).row_mac().mac(&row());

    key(a, TenantKeyVersion::FIRST)
        .row_mac()
        .verify(&row(), &mac)
        .unwrap();
    assert!(
        key(b, TenantKeyVersion::FIRST)
            .row_mac()
            .verify(&row(), &mac)
            .is_err()
    );
    assert!(key(a, second).row_mac().verify(&row(), &mac).is_err());
}

#[test]
fn a_damaged_mac_is_refused() {
    let key = tenant_key();
    let mac = key.row_mac().mac(&row());
    for at in 0..mac.len() {
        let mut damaged = mac;
        damaged[at] ^= 1;
        assert!(key.row_mac().verify(&row(), &damaged).is_err(), "byte {at}");
    }
    assert!(key.row_mac().verify(&row(), &mac[..31]).is_err());
    assert!(key.row_mac().verify(&row(), &[]).is_err());
}

#[test]
fn a_record_is_authentic_in_its_place_in_the_chain_only() {
    let (key, _) = tenant_key()
        .new_audit_key(SecretVersion::FIRST, &SystemRandom)
        .unwrap();
    let record = |number| RowWriter::new("records").i64(number).text("served");
    let first = key.mac(&[0; 32], &record(1));
    let second = key.mac(&first, &record(2));

    key.verify(&[0; 32], &record(1), &first).unwrap();
    key.verify(&first, &record(2), &second).unwrap();
    assert!(
        key.verify(&[0; 32], &record(2), &second).is_err(),
        "the first was deleted"
    );
    assert!(
        key.verify(&first, &record(3), &second).is_err(),
        "the second was edited"
    );
    assert!(
        key.verify(&second, &record(1), &first).is_err(),
        "the two were swapped"
    );
}

#[test]
fn equal_values_have_equal_fingerprints_within_one_key_only() {
    let tenant_key = tenant_key();
    let (key, wrapped) = tenant_key
        .new_fingerprint_key(SecretVersion::FIRST, &SystemRandom)
        .unwrap();
    let again = tenant_key
        .open_fingerprint_key(SecretVersion::FIRST, &wrapped)
        .unwrap();
    let (other, _) = tenant_key
        .new_fingerprint_key(SecretVersion::FIRST, &SystemRandom)
        .unwrap();

    assert_eq!(key.fingerprint(b"hunter2"), again.fingerprint(b"hunter2"));
    assert_ne!(key.fingerprint(b"hunter2"), key.fingerprint(b"hunter3"));
    assert_ne!(key.fingerprint(b"hunter2"), other.fingerprint(b"hunter2"));
}

#[test]
fn a_proof_is_accepted_for_its_incarnation_pod_and_tenant_only() {
    let key = tenant_key();
    let proof = key.incarnation_proof(ID, "pod-a");
    let proof = proof.as_bytes();

    key.verify_incarnation_proof(ID, "pod-a", proof).unwrap();
    assert!(
        key.verify_incarnation_proof(Uuid::from_u128(8), "pod-a", proof)
            .is_err()
    );
    assert!(key.verify_incarnation_proof(ID, "pod-b", proof).is_err());
    assert!(
        tenant_key()
            .verify_incarnation_proof(ID, "pod-a", proof)
            .is_err()
    );
    assert!(
        key.verify_incarnation_proof(ID, "pod-a", &proof[..31])
            .is_err()
    );
    assert!(key.verify_incarnation_proof(ID, "pod-a", &[]).is_err());
}
