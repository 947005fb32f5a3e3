//! Rows swapped at any layer of keys never open: each is bound to its place.

use bursar_seal::{Ciphertext, RootKeyVersion, TenantId, TenantKeyVersion, WrappedKey};
use bursar_vault::rows::VersionRow;
use bursar_vault::{Tenant, VaultError};
use uuid::Uuid;

use crate::fixture::{Fixture, ns, ns_uid, roots, token};

/// Two tenants, two tokens in each, two versions of each; all values differ.
async fn two_of_each(hint: &str) -> (Fixture, Vec<Tenant>) {
    let fixture = Fixture::new(hint).await;
    let mut tenants = Vec::new();
    for namespace in ["one", "two"] {
        let tenant = fixture.tenant_with_uid(namespace, namespace).await;
        let ana = fixture.user(&tenant, "ana").await;
        for name in ["github", "slack"] {
            let spec = token(name, &ana);
            for value in ["old", "new"] {
                let value = format!("{namespace} {name} {value}");
                fixture.apply(&tenant, &spec, &value).await.unwrap();
            }
        }
        tenants.push(tenant);
    }
    (fixture, tenants)
}

async fn versions(fixture: &Fixture) -> Vec<VersionRow> {
    sqlx::query_as("select * from token_version order by tenant_id, token_id, version")
        .fetch_all(&fixture.sql)
        .await
        .unwrap()
}

fn of<'a>(tenants: &'a [Tenant], row: &VersionRow) -> &'a Tenant {
    tenants
        .iter()
        .find(|tenant| tenant.id().as_uuid() == row.tenant_id)
        .unwrap()
}

#[tokio::test]
async fn a_data_key_opens_only_in_its_place() {
    let (fixture, tenants) = two_of_each("swap_data_key").await;
    let rows = versions(&fixture).await;
    assert_eq!(rows.len(), 8);
    for (i, here) in rows.iter().enumerate() {
        for (j, there) in rows.iter().enumerate() {
            let key = of(&tenants, here).keys().newest();
            let (token, version) = (here.token_id.into(), here.version.try_into().unwrap());
            let wrapped = WrappedKey::from(there.wrapped_key.clone().unwrap());
            assert_eq!(
                key.open_data_key(token, version, &wrapped).is_ok(),
                i == j,
                "{i} {j}"
            );
        }
    }
}

#[tokio::test]
async fn a_value_opens_only_in_its_place() {
    let (fixture, tenants) = two_of_each("swap_value").await;
    let rows = versions(&fixture).await;
    for (i, here) in rows.iter().enumerate() {
        let keys = of(&tenants, here).keys();
        let verified = here.clone().verify(keys).unwrap();
        let (key, _) = verified.open_key(keys).unwrap().unwrap();
        for (j, there) in rows.iter().enumerate() {
            // The other's value under this key, and this one's in the other's place.
            let value = Ciphertext::from(there.ciphertext.clone().unwrap());
            let opened = key.open_value(&verified.context(), &value).is_ok();
            assert_eq!(opened, i == j, "value of {j} in place {i}");

            let elsewhere = there
                .clone()
                .verify(of(&tenants, there).keys())
                .unwrap()
                .context();
            let value = Ciphertext::from(here.ciphertext.clone().unwrap());
            assert_eq!(
                key.open_value(&elsewhere, &value).is_ok(),
                i == j,
                "value of {i} in place {j}"
            );
        }
    }
}

#[tokio::test]
async fn a_tenant_key_opens_only_in_its_place() {
    let (fixture, _) = two_of_each("swap_tenant_key").await;
    let rows: Vec<(Uuid, i32, i32, Vec<u8>)> =
        sqlx::query_as("select tenant_id, key_version, root_version, wrapped_key from tenant_key")
            .fetch_all(&fixture.sql)
            .await
            .unwrap();
    let roots = roots([(1, 1), (2, 2)]);
    let root = |number: i32| RootKeyVersion::try_from(number).unwrap();
    for (i, (tenant, version, root_version, _)) in rows.iter().enumerate() {
        for (j, (.., wrapped)) in rows.iter().enumerate() {
            let open = |version: i32, root_version| {
                let version = TenantKeyVersion::try_from(version).unwrap();
                let wrapped = WrappedKey::from(wrapped.clone());
                roots.open_tenant_key(TenantId::from(*tenant), version, root_version, &wrapped)
            };
            assert_eq!(
                open(*version, root(*root_version)).is_ok(),
                i == j,
                "{i} {j}"
            );
            assert!(open(*version, root(2)).is_err());
            assert!(open(*version + 1, root(*root_version)).is_err());
        }
    }
}

#[tokio::test]
async fn rows_swapped_in_the_database_are_noticed_at_every_layer() {
    let (fixture, tenants) = two_of_each("swap_rows").await;
    let swap_versions = |columns: &str| {
        format!(
            "update token_version as a set {} from token_version as b
             where (a.tenant_id, a.token_id) = (b.tenant_id, b.token_id) and a.version <> b.version",
            columns.split(' ').map(|column| format!("{column} = b.{column}")).collect::<Vec<_>>().join(", ")
        )
    };
    for columns in [
        "wrapped_key",
        "ciphertext",
        "wrapped_key ciphertext",
        "wrapped_key ciphertext mac",
    ] {
        assert_eq!(fixture.tamper(&swap_versions(columns)).await, 8);
        for row in versions(&fixture).await {
            let keys = of(&tenants, &row).keys();
            let failure = row.verify(keys).unwrap_err();
            assert_eq!(failure.table, "token_version");
        }
        fixture.tamper(&swap_versions(columns)).await;
    }
    for row in versions(&fixture).await {
        let keys = of(&tenants, &row).keys();
        row.verify(keys).expect("swapped back, all is as before");
    }

    let swapped = fixture
        .tamper(
            "update tenant_key as a set wrapped_key = b.wrapped_key
             from tenant_key as b where a.tenant_id <> b.tenant_id",
        )
        .await;
    assert_eq!(swapped, 2);
    // A process that has the keys in memory goes on; a new one cannot begin.
    let restarted = fixture.restarted().await;
    for namespace in ["one", "two"] {
        let found = restarted
            .tenant_of(&ns(namespace), &ns_uid(namespace))
            .await;
        assert!(
            matches!(found, Err(VaultError::Integrity(failure)) if failure.table == "tenant_key")
        );
    }
}
