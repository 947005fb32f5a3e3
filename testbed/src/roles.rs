//! The roles view, edit and admin, as on a cluster with a controller manager.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::handle::{Handle, HandleError};

/// Each is part of the one after it.
const ROLES: [&str; 3] = ["view", "edit", "admin"];

impl Handle {
    /// Fills the roles view, edit and admin with the rules of all roles labelled for them,
    /// as they are now. A controller manager does that all the time; without one those
    /// roles allow nothing.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn aggregate_roles(&self) -> Result<(), HandleError> {
        let roles = Api::<ClusterRole>::all(self.client().await?);
        for name in ROLES {
            let refused = |source| HandleError::Kubernetes {
                what: format!("the rules of role {name}"),
                source: Box::new(source),
            };
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}=true");
            let parts = roles.list(&ListParams::default().labels(&label)).await;
            let rules: Vec<PolicyRule> = parts
                .map_err(refused)?
                .into_iter()
                .flat_map(|part| part.rules.unwrap_or_default())
                .collect();
            let patch = Patch::Merge(json!({ "rules": rules }));
            roles
                .patch(name, &PatchParams::default(), &patch)
                .await
                .map_err(refused)?;
        }
        Ok(())
    }
}
