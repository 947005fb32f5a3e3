//! What is sealed opens in its own place only: every bound field is changed one
//! at a time, at each layer.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fmt::Debug;

use bursar_seal::{
    BlobError, Ciphertext, DataKeyError, Opener, PlainBuffer, Random, RandomError, RootKey,
    RootKeyError, RootKeys, SystemRandom, TenantId, TenantKey, TenantKeyError, TenantSecretError,
    TokenId, ValueContext, WrappedKey,
};

/// The same bytes each time, so that two keys differ in nothing but the field
/// under test.
struct Same;

impl Random for Same {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.fill(7);
        Ok(())
    }
}

/// A version of whatever kind is asked for.
fn v<T: TryFrom<u32, Error: Debug>>(number: u32) -> T {
    T::try_from(number).unwrap()
}

fn tenant() -> TenantId {
    TenantId::generate(&SystemRandom).unwrap()
}

fn token() -> TokenId {
    TokenId::generate(&SystemRandom).unwrap()
}

fn context() -> ValueContext {
    ValueContext {
        tenant: tenant(),
        token: token(),
        version: v(1),
        column: "value",
    }
}

/// Root keys of these versions, all with the same bytes.
fn root_keys(versions: &[u32]) -> RootKeys {
    let keys = versions
        .iter()
        .map(|n| RootKey::from_bytes(v(*n), &[1; 32]).unwrap());
    RootKeys::new(keys).unwrap()
}

/// The tenant key made from the same bytes for whatever tenant and version.
fn tenant_key(tenant: TenantId, version: u32) -> TenantKey {
    let (key, _) = root_keys(&[1])
        .new_tenant_key(tenant, v(version), &Same)
        .unwrap();
    key
}

/// Why a tenant key did not open.
fn tenant_key_reason<T>(opened: Result<T, TenantKeyError>) -> Option<BlobError> {
    match opened.err()? {
        TenantKeyError::Open { reason, .. } => Some(reason),
        other => panic!("{other}"),
    }
}

/// Why a data key or a value did not open.
fn data_reason<T>(opened: Result<T, DataKeyError>) -> Option<BlobError> {
    match opened.err()? {
        DataKeyError::OpenKey { reason, .. } | DataKeyError::OpenValue { reason, .. } => {
            Some(reason)
        }
        other => panic!("{other}"),
    }
}

/// Why a tenant secret did not open.
fn secret_reason<T>(opened: Result<T, TenantSecretError>) -> Option<BlobError> {
    match opened.err()? {
        TenantSecretError::Open { reason, .. } => Some(reason),
        other => panic!("{other}"),
    }
}

const REFUSED: Option<BlobError> = Some(BlobError::NotAuthentic);

#[test]
fn a_tenant_key_opens_for_its_root_version_tenant_and_version_only() {
    let (a, b) = (tenant(), tenant());
    let (_, wrapped) = root_keys(&[1])
        .new_tenant_key(a, v(1), &SystemRandom)
        .unwrap();
    let keys = root_keys(&[1, 2]);
    let open = |tenant, version, root| keys.open_tenant_key(tenant, v(version), v(root), &wrapped);

    assert!(open(a, 1, 1).is_ok());
    assert_eq!(tenant_key_reason(open(b, 1, 1)), REFUSED, "another tenant");
    assert_eq!(tenant_key_reason(open(a, 2, 1)), REFUSED, "another version");
    assert_eq!(
        tenant_key_reason(open(a, 1, 2)),
        REFUSED,
        "another root version, same key"
    );
    assert!(matches!(
        open(a, 1, 3),
        Err(TenantKeyError::Root(RootKeyError::Unknown { version })) if version == v(3)
    ));
}

#[test]
fn a_tenant_key_does_not_open_under_another_root_key_of_that_version() {
    let a = tenant();
    let (_, wrapped) = root_keys(&[1])
        .new_tenant_key(a, v(1), &SystemRandom)
        .unwrap();
    let other = RootKeys::new([RootKey::from_bytes(v(1), &[2; 32]).unwrap()]).unwrap();
    let error = other
        .open_tenant_key(a, v(1), v(1), &wrapped)
        .err()
        .unwrap();
    assert!(error.to_string().contains("root key version 1"), "{error}");
    assert!(error.to_string().contains(&a.to_string()), "{error}");
}

#[test]
fn a_data_key_opens_for_its_tenant_key_token_and_version_only() {
    let (a, t) = (tenant(), token());
    let (_, wrapped) = tenant_key(a, 1)
        .new_data_key(t, v(1), &SystemRandom)
        .unwrap();
    let open = |key: TenantKey, token, version| {
        data_reason(key.open_data_key(token, v(version), &wrapped))
    };

    assert_eq!(open(tenant_key(a, 1), t, 1), None);
    assert_eq!(open(tenant_key(a, 1), token(), 1), REFUSED, "another token");
    assert_eq!(
        open(tenant_key(a, 1), t, 2),
        REFUSED,
        "another token version"
    );
    assert_eq!(
        open(tenant_key(a, 2), t, 1),
        REFUSED,
        "another tenant key version"
    );
    assert_eq!(
        open(tenant_key(tenant(), 1), t, 1),
        REFUSED,
        "another tenant"
    );
}

#[test]
fn a_value_opens_for_its_tenant_token_version_and_column_only() {
    let context = context();
    let key = tenant_key(context.tenant, 1);
    let (fresh, wrapped) = key
        .new_data_key(context.token, context.version, &SystemRandom)
        .unwrap();
    let sealed = fresh
        .seal_value(&context, b"hunter2", &SystemRandom)
        .unwrap();
    let data_key = key
        .open_data_key(context.token, context.version, &wrapped)
        .unwrap();

    assert_eq!(
        data_key.open_value(&context, &sealed).unwrap().expose(),
        b"hunter2"
    );
    for (what, other) in [
        (
            "another tenant",
            ValueContext {
                tenant: tenant(),
                ..context
            },
        ),
        (
            "another token",
            ValueContext {
                token: token(),
                ..context
            },
        ),
        (
            "another version",
            ValueContext {
                version: v(2),
                ..context
            },
        ),
        (
            "another column",
            ValueContext {
                column: "note",
                ..context
            },
        ),
    ] {
        assert_eq!(
            data_reason(data_key.open_value(&other, &sealed)),
            REFUSED,
            "{what}"
        );
        let opener = Opener::new(&data_key, &other, sealed.clone()).unwrap();
        assert_eq!(
            data_reason(opener.open(&mut PlainBuffer::new())),
            REFUSED,
            "{what}"
        );
    }
}

#[test]
fn a_tenant_secret_opens_for_its_tenant_key_purpose_and_version_only() {
    let a = tenant();
    let (_, wrapped) = tenant_key(a, 1)
        .new_fingerprint_key(v(1), &SystemRandom)
        .unwrap();
    let open =
        |key: TenantKey, version| secret_reason(key.open_fingerprint_key(v(version), &wrapped));

    assert_eq!(open(tenant_key(a, 1), 1), None);
    assert_eq!(open(tenant_key(a, 1), 2), REFUSED, "another version");
    assert_eq!(
        open(tenant_key(a, 2), 1),
        REFUSED,
        "another tenant key version"
    );
    assert_eq!(open(tenant_key(tenant(), 1), 1), REFUSED, "another tenant");
    let as_audit = tenant_key(a, 1).open_audit_key(v(1), &wrapped);
    assert_eq!(secret_reason(as_audit), REFUSED, "another purpose");
}

#[test]
fn a_wrapped_key_of_one_kind_is_no_key_of_another() {
    let (key, t) = (tenant_key(tenant(), 1), token());
    let (_, data_key) = key.new_data_key(t, v(1), &SystemRandom).unwrap();
    let (_, secret) = key.new_audit_key(v(1), &SystemRandom).unwrap();
    assert_eq!(secret_reason(key.open_audit_key(v(1), &data_key)), REFUSED);
    assert_eq!(data_reason(key.open_data_key(t, v(1), &secret)), REFUSED);
}

#[test]
fn damaged_bytes_are_refused_at_every_layer_and_say_how() {
    let context = context();
    let keys = root_keys(&[1]);
    let (key, wrapped_tenant_key) = keys
        .new_tenant_key(context.tenant, v(1), &SystemRandom)
        .unwrap();
    let (fresh, wrapped_data_key) = key
        .new_data_key(context.token, context.version, &SystemRandom)
        .unwrap();
    let (_, wrapped_secret) = key.new_audit_key(v(1), &SystemRandom).unwrap();
    let data_key = key
        .open_data_key(context.token, context.version, &wrapped_data_key)
        .unwrap();
    let sealed = fresh
        .seal_value(&context, b"hunter2", &SystemRandom)
        .unwrap();

    type Damage = fn(&mut Vec<u8>);
    let damages: [(Damage, BlobError); 5] = [
        (|bytes| bytes[0] = 2, BlobError::UnknownFormat),
        (|bytes| bytes[20] ^= 1, BlobError::NotAuthentic),
        (
            |bytes| bytes.truncate(bytes.len() - 1),
            BlobError::NotAuthentic,
        ),
        (|bytes| bytes.push(0), BlobError::NotAuthentic),
        (|bytes| bytes.truncate(28), BlobError::Truncated),
    ];
    for (damage, reason) in damages {
        let damaged = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            damage(&mut bytes);
            bytes
        };

        let wrapped = WrappedKey::from(damaged(wrapped_tenant_key.as_bytes()));
        let opened = keys.open_tenant_key(context.tenant, v(1), v(1), &wrapped);
        assert_eq!(tenant_key_reason(opened), Some(reason));

        let wrapped = WrappedKey::from(damaged(wrapped_data_key.as_bytes()));
        let opened = key.open_data_key(context.token, context.version, &wrapped);
        assert_eq!(data_reason(opened), Some(reason));

        let wrapped = WrappedKey::from(damaged(wrapped_secret.as_bytes()));
        assert_eq!(
            secret_reason(key.open_audit_key(v(1), &wrapped)),
            Some(reason)
        );

        let value = Ciphertext::from(damaged(sealed.as_bytes()));
        assert_eq!(
            data_reason(data_key.open_value(&context, &value)),
            Some(reason)
        );
        let opener = Opener::new(&data_key, &context, value).unwrap();
        assert_eq!(
            data_reason(opener.open(&mut PlainBuffer::new())),
            Some(reason)
        );
    }
}
