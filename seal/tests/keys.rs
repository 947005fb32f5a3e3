//! The life of keys: made, rewrapped, sent, and never printed.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fmt::{Debug, Display};

use bursar_seal::{
    AuditKey, DataKey, DataKeyError, FingerprintKey, FreshDataKey, IncarnationProof, Opener,
    PlainBuffer, Plaintext, Random, RandomError, RootKey, RootKeyVersion, RootKeys, RowMac, Secret,
    SecretVersion, SystemRandom, TenantId, TenantKey, TenantKeyVersion, TokenId, TokenVersion,
    ValueContext,
};

struct Broken;

impl Random for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError)
    }
}

fn tenant() -> TenantId {
    TenantId::generate(&SystemRandom).unwrap()
}

fn token() -> TokenId {
    TokenId::generate(&SystemRandom).unwrap()
}

/// Root keys of versions 1 to `newest`, each with bytes of its own.
fn root_keys(newest: u8) -> RootKeys {
    let keys = (1..=newest).map(|n| {
        let version = RootKeyVersion::try_from(u32::from(n)).unwrap();
        RootKey::from_bytes(version, &[n; 32]).unwrap()
    });
    RootKeys::new(keys).unwrap()
}

#[test]
fn a_rewrapped_tenant_key_is_the_same_key_under_the_newest_root_version_only() {
    let (tenant, token) = (tenant(), token());
    let version = TenantKeyVersion::FIRST;
    let old = root_keys(1);
    let (key, wrapped) = old.new_tenant_key(tenant, version, &SystemRandom).unwrap();
    let (_, data_key) = key
        .new_data_key(token, TokenVersion::FIRST, &SystemRandom)
        .unwrap();

    let both = root_keys(2);
    let rewrapped = both
        .rewrap_tenant_key(tenant, version, old.newest(), &wrapped, &SystemRandom)
        .unwrap();

    assert!(
        both.open_tenant_key(tenant, version, old.newest(), &rewrapped)
            .is_err()
    );
    both.open_tenant_key(tenant, version, both.newest(), &rewrapped)
        .unwrap()
        .open_data_key(token, TokenVersion::FIRST, &data_key)
        .unwrap();
}

#[test]
fn a_data_key_survives_the_way_from_vault_to_broker() {
    let (key, _) = root_keys(1)
        .new_tenant_key(tenant(), TenantKeyVersion::FIRST, &SystemRandom)
        .unwrap();
    let token = token();
    let (_, wrapped) = key
        .new_data_key(token, TokenVersion::FIRST, &SystemRandom)
        .unwrap();
    let sent = key
        .open_data_key(token, TokenVersion::FIRST, &wrapped)
        .unwrap();
    let received = DataKey::from_bytes(sent.expose()).unwrap();
    assert_eq!(received.expose(), sent.expose());
}

#[test]
fn a_data_key_of_the_wrong_length_is_refused() {
    for bytes in [0, 31, 33] {
        let error = DataKey::from_bytes(&vec![1; bytes]).err().unwrap();
        assert!(matches!(error, DataKeyError::Length { length } if length == bytes));
    }
}

#[test]
fn nothing_is_made_or_sealed_without_randomness() {
    let context = ValueContext {
        tenant: tenant(),
        token: token(),
        version: TokenVersion::FIRST,
        column: "value",
    };
    let (keys, version) = (root_keys(1), TenantKeyVersion::FIRST);
    let (key, wrapped) = keys
        .new_tenant_key(context.tenant, version, &SystemRandom)
        .unwrap();
    let (fresh, _) = key
        .new_data_key(context.token, context.version, &SystemRandom)
        .unwrap();

    assert!(TenantId::generate(&Broken).is_err());
    assert!(
        keys.new_tenant_key(context.tenant, version, &Broken)
            .is_err()
    );
    assert!(
        keys.rewrap_tenant_key(context.tenant, version, keys.newest(), &wrapped, &Broken)
            .is_err()
    );
    assert!(
        key.new_data_key(context.token, context.version, &Broken)
            .is_err()
    );
    assert!(
        key.new_fingerprint_key(SecretVersion::FIRST, &Broken)
            .is_err()
    );
    assert!(key.new_audit_key(SecretVersion::FIRST, &Broken).is_err());
    assert!(fresh.seal_value(&context, b"hunter2", &Broken).is_err());
}

/// Does not compile when the type has the trait: the name of the associated
/// item is then ambiguous.
macro_rules! assert_lacks {
    ($type:ty, $($trait:path),+) => {{
        trait Lacks<Marker> {
            const HOLDS: () = ();
        }
        impl<T: ?Sized> Lacks<()> for T {}
        $({
            struct Has;
            impl<T: ?Sized + $trait> Lacks<Has> for T {}
        })+
        <$type as Lacks<_>>::HOLDS
    }};
}

#[test]
fn nothing_that_holds_a_secret_can_be_printed_or_serialized_or_copied() {
    macro_rules! assert_opaque {
        ($($type:ty),+ $(,)?) => {
            $(assert_lacks!($type, Debug, Display, Clone, serde::Serialize);)+
        };
    }
    assert_opaque!(
        AuditKey,
        DataKey,
        FingerprintKey,
        FreshDataKey,
        IncarnationProof,
        Opener,
        PlainBuffer,
        Plaintext<'static>,
        RootKey,
        RootKeys,
        RowMac,
        Secret,
        TenantKey,
    );
}
