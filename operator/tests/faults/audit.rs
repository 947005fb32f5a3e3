//! Whether the audit verifies, with the keys that the operator has.

use std::sync::Arc;
use std::time::Duration;

use bursar_seal::{RootKey, RootKeyVersion, RootKeys, SystemRandom, TenantId};
use bursar_vault::{QUERY_LIMIT, SystemClock, Vault, VaultConfig};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use uuid::Uuid;

use crate::bed::{Bed, ROOT_KEY};

impl Bed {
    /// Goes through all records and checkpoints (I8); what is not as it was written, if
    /// anything, and how much was verified.
    pub(crate) async fn verify_audit(&self) -> Result<String, String> {
        let tenants: Vec<Uuid> = sqlx::query_scalar("select tenant_id from tenant")
            .fetch_all(&mut self.connect().await)
            .await
            .unwrap();
        let [tenant] = tenants[..] else {
            return Err(format!("{} tenants instead of one", tenants.len()));
        };
        let found = self.vault().await;
        let found = found.verify_audit(TenantId::from(tenant), None).await;
        let found = found.map_err(|error| error.to_string())?;
        match found.first_bad {
            Some(bad) => Err(format!("the audit does not verify: {bad:?}")),
            None => Ok(format!(
                "{} records in {} chains verified",
                found.records, found.chains
            )),
        }
    }

    async fn vault(&self) -> Vault {
        let client = self.testbed.handle().client().await.unwrap();
        let cluster = Api::<Namespace>::all(client).get("kube-system").await;
        let root = RootKey::from_bytes(RootKeyVersion::FIRST, &ROOT_KEY).unwrap();
        Vault::open(VaultConfig {
            database_url: self.database.runtime_url.clone(),
            insecure_database: false,
            max_connections: 2,
            cluster_id: cluster.unwrap().metadata.uid.unwrap(),
            roots: RootKeys::new([root]).unwrap(),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock),
            lease: Duration::from_secs(15),
            query_limit: QUERY_LIMIT,
        })
        .await
        .unwrap()
    }
}
