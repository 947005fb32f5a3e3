//! Status, by server-side apply.

use bursar_crds::conditions::Condition;
use bursar_crds::names::FIELD_MANAGER;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::kind::{Guarded, Kind, place};

/// Writes [`write_use`]'s part of a status, which no reconcile knows anything newer of.
const USE_FIELD_MANAGER: &str = "bursar-operator-use";
/// That part.
const USE_FIELDS: [&str; 2] = ["lastUsedTime", "lastUsedBy"];

/// Writes the whole status of an object but when it was used. The caller has found that its meaning
/// changed.
///
/// # Errors
/// When the API server refuses, for example because the object was replaced meanwhile.
pub(crate) async fn write<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
    status: &impl Serialize,
) -> Result<(), kube::Error> {
    let mut status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|field, _| !USE_FIELDS.contains(&field.as_str()));
    }
    apply(client, object, &status, FIELD_MANAGER).await
}

/// Writes when and by whom an object was used, and leaves the rest of its status as it is.
///
/// # Errors
/// When the API server refuses, for example because the object was replaced meanwhile.
pub(crate) async fn write_use<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
    used: &serde_json::Value,
) -> Result<(), kube::Error> {
    apply(client, object, used, USE_FIELD_MANAGER).await
}

async fn apply<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
    status: &serde_json::Value,
    manager: &str,
) -> Result<(), kube::Error> {
    let (namespace, name) = place(object);
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": object.uid() },
        "status": status,
    });
    // By force: nobody else has a say in what the operator found.
    let params = PatchParams::apply(manager).force();
    let objects = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), &namespace);
    objects
        .patch_status(&name, &params, &Patch::Apply(&patch))
        .await?;
    Ok(())
}

/// Writes parts of the status of an object, and leaves the others as they are.
///
/// # Errors
/// When the API server refuses, for example because the object was replaced meanwhile.
pub(crate) async fn merge<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
    status: &impl Serialize,
) -> Result<(), kube::Error> {
    let (namespace, name) = place(object);
    let patch = json!({ "metadata": { "uid": object.uid() }, "status": status });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    let objects = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), &namespace);
    objects
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await?;
    Ok(())
}

/// The conditions of an object that cannot be read as its kind; none if they cannot be read
/// either.
///
/// # Errors
/// When the API server does not give the object.
pub(crate) async fn read_conditions<K: Kind>(
    client: &Client,
    object: &Guarded<K>,
) -> Result<Vec<Condition>, kube::Error> {
    let (namespace, name) = place(object);
    let resource = ApiResource::erase::<K>(&());
    let objects = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
    let object = objects.get(&name).await?;
    let conditions = object.data.pointer("/status/conditions");
    Ok(conditions
        .and_then(|list| Vec::deserialize(list).ok())
        .unwrap_or_default())
}
