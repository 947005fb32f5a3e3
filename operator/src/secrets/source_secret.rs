//! A Secret as the operator holds it: no more of it than a token may need, in a type that cannot
//! be printed and is zeroed when dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bursar_seal::Secret as SecretBytes;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// One of the values, as it came: base64. Shared, so that a copy of the object is no copy of it.
#[derive(Clone)]
struct Encoded(Arc<Zeroizing<String>>);

/// A v1 Secret with the parts that matter here.
///
/// Reading one never fails on its content: an error would quote what it stumbled over.
#[derive(Clone)]
pub(crate) struct SourceSecret {
    metadata: ObjectMeta,
    type_: String,
    data: BTreeMap<String, Encoded>,
    /// When a change of it was heard of; `None` if it was there from the start.
    pub(crate) heard: Option<Timestamp>,
}

impl SourceSecret {
    /// The Secret's `type`.
    pub(crate) fn type_(&self) -> &str {
        &self.type_
    }

    /// A copy of the value of `key`, if there is one.
    pub(crate) fn value(&self, key: &str) -> Option<SecretBytes> {
        let encoded = &self.data.get(key)?.0;
        // The final size from the start: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(encoded.len())]);
        // The API server only takes base64, so a failure here is as good as no such key.
        let length = STANDARD.decode_slice(encoded.as_bytes(), &mut bytes).ok()?;
        bytes.truncate(length);
        Some(SecretBytes::from(std::mem::take(&mut *bytes)))
    }
}

/// The metadata that is kept. Not the annotations: `kubectl apply` leaves a copy of the values
/// in one of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    type_: Option<String>,
    #[serde(default)]
    data: Option<BTreeMap<String, Encoded>>,
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(Arc::new(Zeroizing::new(text.unwrap_or_default()))))
    }
}

impl<'de> Deserialize<'de> for SourceSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self {
            metadata: ObjectMeta {
                name: wire.metadata.name,
                namespace: wire.metadata.namespace,
                uid: wire.metadata.uid,
                resource_version: wire.metadata.resource_version,
                ..ObjectMeta::default()
            },
            type_: wire.type_.unwrap_or_default(),
            data: wire.data.unwrap_or_default(),
            heard: None,
        })
    }
}

// What kube's watch asks for; it says which Secret, and nothing of what is in it.
impl fmt::Debug for SourceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (namespace, name) = (part(&self.metadata.namespace), part(&self.metadata.name));
        write!(f, "Secret {namespace}/{name}")
    }
}

impl Resource for SourceSecret {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Secret".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "secrets".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::SourceSecret;

    fn secret(data: serde_json::Value) -> SourceSecret {
        serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "s",
                "namespace": "team",
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "planted" },
            },
            "type": "Opaque",
            "data": data,
        }))
        .unwrap()
    }

    #[test]
    fn a_value_is_decoded_byte_for_byte() {
        let secret = secret(json!({ "token": "cGxhbnRlZAo=", "empty": "", "null": null }));
        assert_eq!(secret.value("token").unwrap().expose(), b"planted\n");
        assert_eq!(secret.value("empty").unwrap().expose(), b"");
        assert_eq!(secret.value("null").unwrap().expose(), b"");
        assert!(secret.value("other").is_none());
    }

    #[test]
    fn debug_output_names_the_secret_and_shows_nothing_of_it() {
        let secret = secret(json!({ "token": "cGxhbnRlZAo=" }));
        assert_eq!(format!("{secret:?}"), "Secret team/s");
    }

    #[test]
    fn no_content_makes_reading_fail() {
        let secret = secret(json!({ "token": "not base64!" }));
        assert!(secret.value("token").is_none());
    }
}
