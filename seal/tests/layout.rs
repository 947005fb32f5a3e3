//! The committed test vectors follow the layout that the crate's documentation
//! gives: read here by code that knows the documentation and aws-lc only.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../examples/vectors/shapes.rs"]
mod shapes;

use std::error::Error;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use serde::de::DeserializeOwned;
use shapes::*;
use uuid::Uuid;

type Outcome = Result<(), Box<dyn Error>>;

fn vectors<T: DeserializeOwned>(name: &str) -> Result<Vec<T>, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    let vectors: Vec<T> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    assert!(!vectors.is_empty(), "{name} is empty");
    Ok(vectors)
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [
        &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..],
        bytes,
    ]
    .concat()
}

fn fields(label: &str, values: &[&[u8]]) -> Vec<u8> {
    let values = values.iter().flat_map(|value| prefixed(value));
    [vec![1], prefixed(label.as_bytes())]
        .concat()
        .into_iter()
        .chain(values)
        .collect()
}

fn uuid(text: &str) -> [u8; 16] {
    text.parse::<Uuid>().unwrap().into_bytes()
}

fn number(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn derive(key: &str, info: &[u8]) -> [u8; 32] {
    let mut derived = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(&hex::decode(key).unwrap())
        .expand(&[info], hkdf::HKDF_SHA256)
        .unwrap()
        .fill(&mut derived)
        .unwrap();
    derived
}

/// What `sealed` holds under `key`, in hexadecimal; `nonce` is what it must say.
fn open(key: &[u8], associated: &[u8], nonce: &str, sealed: &str) -> String {
    let mut sealed = hex::decode(sealed).unwrap();
    assert_eq!(sealed[0], 1);
    assert_eq!(hex::encode(&sealed[1..13]), nonce);
    let nonce = Nonce::try_assume_unique_for_key(&sealed[1..13]).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    hex::encode(
        key.open_in_place(nonce, Aad::from(associated), &mut sealed[13..])
            .unwrap(),
    )
}

fn mac(key: &[u8], message: &[u8]) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message))
}

fn row(table: &str, columns: &[Column]) -> Vec<u8> {
    let mut bytes = fields("bursar row", &[table.as_bytes()]);
    for column in columns {
        let (kind, value) = match column {
            Column::Absent => (0, vec![]),
            Column::Bytes(value) => (1, hex::decode(value).unwrap()),
            Column::Text(value) => (2, value.clone().into_bytes()),
            Column::Uuid(value) => (3, uuid(value).to_vec()),
            Column::Number(value) => (4, value.to_be_bytes().to_vec()),
            Column::Boolean(value) => (5, vec![u8::from(*value)]),
            Column::Texts(value) => (
                6,
                value
                    .iter()
                    .flat_map(|text| prefixed(text.as_bytes()))
                    .collect(),
            ),
        };
        bytes.push(kind);
        bytes.extend(prefixed(&value));
    }
    bytes
}

#[test]
fn check_values() -> Outcome {
    for v in vectors::<CheckValue>("check-value.json")? {
        let info = fields(
            "bursar root key: check value",
            &[&number(v.root_key_version)],
        );
        assert_eq!(
            format!("01{}", hex::encode(derive(&v.root_key, &info))),
            v.check_value
        );
    }
    Ok(())
}

#[test]
fn tenant_keys() -> Outcome {
    for v in vectors::<WrappedTenantKey>("tenant-key.json")? {
        let root_version = number(v.root_key_version);
        let key = derive(
            &v.root_key,
            &fields("bursar root key: wrap tenant keys", &[&root_version]),
        );
        let place = fields(
            "bursar tenant key",
            &[
                &root_version,
                &uuid(&v.tenant_id),
                &number(v.tenant_key_version),
            ],
        );
        assert_eq!(open(&key, &place, &v.nonce, &v.wrapped), v.tenant_key);
    }
    Ok(())
}

#[test]
fn data_keys() -> Outcome {
    for v in vectors::<WrappedDataKey>("data-key.json")? {
        let version = number(v.tenant_key_version);
        let info = fields(
            "bursar tenant key: wrap data keys",
            &[&uuid(&v.tenant_id), &version],
        );
        let place = fields(
            "bursar data key",
            &[&version, &uuid(&v.token_id), &number(v.token_version)],
        );
        let key = derive(&v.tenant_key, &info);
        assert_eq!(open(&key, &place, &v.nonce, &v.wrapped), v.data_key);
    }
    Ok(())
}

#[test]
fn values() -> Outcome {
    for v in vectors::<SealedValue>("value.json")? {
        let place = fields(
            "bursar value",
            &[
                &uuid(&v.tenant_id),
                &uuid(&v.token_id),
                &number(v.token_version),
                v.column.as_bytes(),
            ],
        );
        let key = hex::decode(&v.data_key)?;
        assert_eq!(open(&key, &place, &v.nonce, &v.ciphertext), v.plaintext);
    }
    Ok(())
}

#[test]
fn tenant_secrets() -> Outcome {
    for v in vectors::<WrappedSecret>("tenant-secret.json")? {
        let version = number(v.tenant_key_version);
        let info = fields(
            "bursar tenant key: wrap tenant secrets",
            &[&uuid(&v.tenant_id), &version],
        );
        let place = fields(
            "bursar tenant secret",
            &[&version, v.purpose.as_bytes(), &number(v.secret_version)],
        );
        let key = derive(&v.tenant_key, &info);
        assert_eq!(open(&key, &place, &v.nonce, &v.wrapped), v.secret);
    }
    Ok(())
}

#[test]
fn fingerprints() -> Outcome {
    for v in vectors::<Fingerprint>("fingerprint.json")? {
        let fingerprint = mac(
            &hex::decode(&v.fingerprint_key)?,
            &hex::decode(&v.plaintext)?,
        );
        assert_eq!(fingerprint, v.fingerprint);
    }
    Ok(())
}

#[test]
fn audit_records() -> Outcome {
    for v in vectors::<AuditRecord>("audit-record.json")? {
        let record = row(&v.table, &v.columns);
        let message = fields(
            "bursar audit record",
            &[&hex::decode(&v.previous)?, &record],
        );
        assert_eq!(mac(&hex::decode(&v.audit_key)?, &message), v.mac);
    }
    Ok(())
}

#[test]
fn rows() -> Outcome {
    for v in vectors::<AuthenticatedRow>("row-mac.json")? {
        let info = fields(
            "bursar tenant key: authenticate rows",
            &[&uuid(&v.tenant_id), &number(v.tenant_key_version)],
        );
        let key = derive(&v.tenant_key, &info);
        assert_eq!(mac(&key, &row(&v.table, &v.columns)), v.mac);
    }
    Ok(())
}

#[test]
fn incarnation_proofs() -> Outcome {
    for v in vectors::<Proof>("incarnation-proof.json")? {
        let info = fields(
            "bursar tenant key: prove incarnations",
            &[&uuid(&v.tenant_id), &number(v.tenant_key_version)],
        );
        let message = fields(
            "bursar incarnation",
            &[&uuid(&v.incarnation_id), v.pod_uid.as_bytes()],
        );
        assert_eq!(mac(&derive(&v.tenant_key, &info), &message), v.proof);
    }
    Ok(())
}
