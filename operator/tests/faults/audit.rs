//! Whether the audit verifies, with the keys that the operator has.

use std::sync::Arc;
use std::time::Duration;

use bursar_crds::names::AUDIT_CHECKPOINT_CONFIG_MAP;
use bursar_seal::{RootKey, RootKeyVersion, RootKeys, SystemRandom, TenantId};
use bursar_vault::{Anchor, QUERY_LIMIT, SystemClock, Vault, VaultConfig};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use uuid::Uuid;

use crate::bed::{Bed, ROOT_KEY};

impl Bed {
    /// Goes through all records and checkpoints (I8), and holds them against what the operator
    /// has bound outside the database; what is not as it was written, if anything, and how much
    /// was verified.
    pub(crate) async fn verify_audit(&self) -> Result<String, String> {
        let tenants: Vec<Uuid> = sqlx::query_scalar("select tenant_id from tenant")
            .fetch_all(&mut self.connect().await)
            .await
            .unwrap();
        let [tenant] = tenants[..] else {
            return Err(format!("{} tenants instead of one", tenants.len()));
        };
        // What is bound outside first, so that the database is newer.
        let anchor = self.anchor().await;
        let found = self.vault().await;
        let found = found.verify_audit(TenantId::from(tenant), anchor.as_ref());
        let found = found.await.map_err(|error| error.to_string())?;
        match found.first_bad {
            Some(bad) => Err(format!("the audit does not verify: {bad:?}")),
            None => Ok(format!(
                "{} records in {} chains and {} checkpoints verified, {}",
                found.records,
                found.chains,
                found.checkpoints,
                if anchor.is_some() {
                    "and held against the ConfigMap"
                } else {
                    "before there was a ConfigMap"
                }
            )),
        }
    }

    /// What the ConfigMap binds; none as long as no operator ran for a minute without a fault.
    async fn anchor(&self) -> Option<Anchor> {
        let client = self.testbed.handle().client().await.unwrap();
        let maps = Api::<ConfigMap>::namespaced(client, "bursar-system");
        let map = maps.get_opt(AUDIT_CHECKPOINT_CONFIG_MAP).await.unwrap();
        let data = map?.data.unwrap();
        let time: Timestamp = data["checkpointTime"].parse().unwrap();
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&data["sha256"], &mut sha256).unwrap();
        Some(Anchor {
            checkpoint_time: time.into(),
            sha256,
        })
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
