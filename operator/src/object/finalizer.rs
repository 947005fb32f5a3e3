//! The finalizer: on an object before its first row is written, off it when its rows are dead.

use bursar_crds::names::{FIELD_MANAGER, FINALIZER};
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::kind::{Guarded, Kind, has_finalizer, place};

/// Puts the finalizer on, unless it is there.
///
/// # Errors
/// When the API server refuses, for example because the object was replaced meanwhile.
pub(crate) async fn add<K: Kind>(client: &Client, object: &Guarded<K>) -> Result<(), kube::Error> {
    if has_finalizer(object) {
        return Ok(());
    }
    let (namespace, name) = place(object);
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": name,
            // Without it, applying to an object that is gone would create one.
            "uid": object.uid(),
            "finalizers": [FINALIZER],
        },
    });
    let objects = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), &namespace);
    objects
        .patch(
            &name,
            &PatchParams::apply(FIELD_MANAGER),
            &Patch::Apply(&patch),
        )
        .await?;
    Ok(())
}

/// Takes the finalizer off; the object may be gone already.
///
/// Not by server-side apply: that would leave it there if somebody else had set it too, with a
/// manifest copied from the cluster for example, and the deletion would never finish.
///
/// # Errors
/// When the API server refuses, for example because the object changed just now: try again.
pub(crate) async fn remove<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
) -> Result<(), kube::Error> {
    let (namespace, name) = place(object);
    let objects = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), &namespace);
    let Some(current) = objects.get_opt(&name).await? else {
        return Ok(());
    };
    if current.uid() != object.uid() || !has_finalizer(&current) {
        return Ok(());
    }
    let others: Vec<&String> = current
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let patch = json!({
        "metadata": {
            // Refused if anything changed since, so that no finalizer of others is lost.
            "resourceVersion": current.resource_version(),
            "finalizers": others,
        },
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    match objects.patch(&name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
