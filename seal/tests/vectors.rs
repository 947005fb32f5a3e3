//! The committed test vectors are what this code writes and reads.

#[path = "../examples/vectors/generate.rs"]
mod generate;
#[path = "../examples/vectors/shapes.rs"]
mod shapes;

use std::error::Error;
use std::path::Path;

use bursar_seal::{
    Ciphertext, DataKey, Opener, PlainBuffer, RootKeyVersion, SecretVersion, TenantKey,
    TenantKeyVersion, TokenVersion, ValueContext, WrappedKey,
};
use generate::{files, root_keys, row};
use serde::de::DeserializeOwned;
use shapes::*;

type Outcome = Result<(), Box<dyn Error>>;

fn committed(name: &str) -> Result<String, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn vectors<T: DeserializeOwned>(name: &str) -> Result<Vec<T>, Box<dyn Error>> {
    let vectors: Vec<T> = serde_json::from_str(&committed(name)?)?;
    assert!(!vectors.is_empty(), "{name} is empty");
    Ok(vectors)
}

fn wrapped(text: &str) -> Result<WrappedKey, Box<dyn Error>> {
    Ok(WrappedKey::from(hex::decode(text)?))
}

/// The tenant key of a vector, opened from the vector that wraps it.
fn tenant_key(plain: &str) -> Result<TenantKey, Box<dyn Error>> {
    let vector = vectors::<WrappedTenantKey>("tenant-key.json")?
        .into_iter()
        .find(|vector| vector.tenant_key == plain)
        .ok_or("no vector wraps this tenant key")?;
    Ok(root_keys(vector.root_key_version)?.open_tenant_key(
        vector.tenant_id.parse::<uuid::Uuid>()?.into(),
        TenantKeyVersion::try_from(vector.tenant_key_version)?,
        RootKeyVersion::try_from(vector.root_key_version)?,
        &wrapped(&vector.wrapped)?,
    )?)
}

#[test]
fn the_committed_vectors_are_what_this_code_makes() -> Outcome {
    let mut names = Vec::new();
    for (name, text) in files()? {
        assert!(
            committed(&name)? == text,
            "{name} differs: the format of stored data changed"
        );
        names.push(name);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for entry in std::fs::read_dir(folder)? {
        let name = entry?
            .file_name()
            .into_string()
            .map_err(|_| "a file name is not UTF-8")?;
        assert!(names.contains(&name), "nothing makes {name}");
    }
    Ok(())
}

#[test]
fn committed_check_values_accept_their_root_key() -> Outcome {
    for vector in vectors::<CheckValue>("check-value.json")? {
        root_keys(2)?.verify_check_value(
            RootKeyVersion::try_from(vector.root_key_version)?,
            &hex::decode(&vector.check_value)?,
        )?;
    }
    Ok(())
}

#[test]
fn committed_data_keys_open() -> Outcome {
    for vector in vectors::<WrappedDataKey>("data-key.json")? {
        let key = tenant_key(&vector.tenant_key)?.open_data_key(
            vector.token_id.parse()?,
            TokenVersion::try_from(vector.token_version)?,
            &wrapped(&vector.wrapped)?,
        )?;
        assert_eq!(hex::encode(key.expose()), vector.data_key);
    }
    Ok(())
}

#[test]
fn committed_values_open_both_ways() -> Outcome {
    for vector in vectors::<SealedValue>("value.json")? {
        assert_eq!(vector.column, "value");
        let context = ValueContext {
            tenant: vector.tenant_id.parse()?,
            token: vector.token_id.parse()?,
            version: TokenVersion::try_from(vector.token_version)?,
            column: "value",
        };
        let key = DataKey::from_bytes(&hex::decode(&vector.data_key)?)?;
        let sealed = Ciphertext::from(hex::decode(&vector.ciphertext)?);
        let plaintext = hex::decode(&vector.plaintext)?;
        assert_eq!(key.open_value(&context, &sealed)?.expose(), plaintext);

        let mut buffer = PlainBuffer::new();
        let opener = Opener::new(&key, &context, sealed)?;
        assert_eq!(opener.open(&mut buffer)?.expose(), plaintext);
    }
    Ok(())
}

#[test]
fn committed_tenant_secrets_open_and_make_the_committed_hashes() -> Outcome {
    let mut opened = 0;
    for vector in vectors::<WrappedSecret>("tenant-secret.json")? {
        let key = tenant_key(&vector.tenant_key)?;
        let version = SecretVersion::try_from(vector.secret_version)?;
        let wrapped = wrapped(&vector.wrapped)?;
        match vector.purpose.as_str() {
            "fingerprint" => {
                let key = key.open_fingerprint_key(version, &wrapped)?;
                for made in vectors::<Fingerprint>("fingerprint.json")? {
                    assert_eq!(made.fingerprint_key, vector.secret);
                    let fingerprint = key.fingerprint(&hex::decode(&made.plaintext)?);
                    assert_eq!(hex::encode(fingerprint.as_bytes()), made.fingerprint);
                }
            }
            "audit" => {
                let key = key.open_audit_key(version, &wrapped)?;
                for made in vectors::<AuditRecord>("audit-record.json")? {
                    assert_eq!(
                        (made.audit_key.as_str(), made.table.as_str()),
                        (&*vector.secret, "records")
                    );
                    let previous = hex::decode(&made.previous)?
                        .try_into()
                        .map_err(|_| "not 32 bytes")?;
                    key.verify(
                        &previous,
                        &row("records", &made.columns)?,
                        &hex::decode(&made.mac)?,
                    )?;
                }
            }
            other => panic!("a vector for {other}, which this test does not open"),
        }
        opened += 1;
    }
    assert_eq!(opened, 2);
    Ok(())
}

#[test]
fn committed_rows_are_authentic() -> Outcome {
    for vector in vectors::<AuthenticatedRow>("row-mac.json")? {
        assert_eq!(vector.table, "example");
        let row = row("example", &vector.columns)?;
        tenant_key(&vector.tenant_key)?
            .row_mac()
            .verify(&row, &hex::decode(&vector.mac)?)?;
    }
    Ok(())
}

#[test]
fn committed_proofs_are_accepted() -> Outcome {
    for vector in vectors::<Proof>("incarnation-proof.json")? {
        tenant_key(&vector.tenant_key)?.verify_incarnation_proof(
            vector.incarnation_id.parse()?,
            &vector.pod_uid,
            &hex::decode(&vector.proof)?,
        )?;
    }
    Ok(())
}
