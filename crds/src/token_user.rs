//! TokenUser: a person or team that tokens belong to.
#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its visibility into a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{self, Condition};
use crate::syntax::{self, MAX_DISPLAY_NAME, MAX_EMAIL, MAX_MESSAGE, MAX_NAME, MAX_REASON};

/// A person or team that tokens belong to. The object's name is the `user_id` of the API.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "bursar.dev",
    version = "v1alpha1",
    kind = "TokenUser",
    namespaced,
    status = "TokenUserStatus",
    derive = "PartialEq",
    doc = "TokenUser is a person or team that tokens belong to. \
           Its name is the user_id of the API.",
    shortname = "tuser",
    category = "bursar",
    selectable = ".spec.email",
    selectable = ".spec.role",
    validation = Rule::new("!(self.metadata.name in ['access', 'status'])")
        .message(
            "A TokenUser cannot be named access or status: these words are part of the API's \
             paths, so choose another name."
        ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Usable",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Usable")].status"#
    ),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.role"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspended"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // Only with -o wide.
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct TokenUserSpec {
    /// Address of the user, for example ana@example.com: at most 254 characters, unique in the
    /// namespace regardless of case. When two objects have the same one, the older keeps it and the
    /// newer gets the reason EmailTaken. It may be left out; nothing is sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_EMAIL))]
    #[x_kube(validation = syntax::email())]
    pub email: Option<String>,

    /// Name for people to read, for example Ana Li: at most 128 characters. It decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_DISPLAY_NAME))]
    #[x_kube(validation = Rule::new("self.size() > 0")
        .message("displayName must not be empty: leave the field out for none."))]
    pub display_name: Option<String>,

    /// What the user may do for others: nothing as a Member; as a Chief or an Admin, look after
    /// Members. There is no call for that yet, so today each of them may do what a Member may. No
    /// role reads another user's tokens. Any role but Member asks the writer for the verb grant-role
    /// on this object.
    #[serde(default)]
    pub role: Role,

    /// The service accounts of this namespace whose pods may act as this user, and so read the user's
    /// tokens (the consumers of a token narrow that): at most 16, for example
    /// [{serviceAccountName: app}]. Nobody may unless listed; while the list is empty, the condition
    /// Usable is False with NoWorkload. A change asks the writer for the verb grant-access on this
    /// object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["serviceAccountName".into()]))]
    pub workloads: Vec<Workload>,

    /// While true, no token of this user can be read, in any pod, from then on. Nothing else is
    /// changed: false serves them again. To lift it asks the writer for the verb grant-access on
    /// this object.
    #[serde(default)]
    pub suspended: bool,
}

/// What a user may do for others.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Role {
    /// Own things only.
    #[default]
    Member,
    /// Also metadata and revocation for Members.
    Chief,
    /// Also sign-up and suspension.
    Admin,
}

/// A service account that may act as the user.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Name of a ServiceAccount in this namespace, for example app. Every container of its pods
    /// counts.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a ServiceAccount", "app"))]
    pub service_account_name: String,

    /// When the workload may act as the user: Always, which is at any time and on its own.
    #[serde(default)]
    pub access: Access,
}

/// When a workload may act as a user.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Access {
    /// At any time, on its own.
    #[default]
    Always,
}

/// What became of the spec. Written by the operator only.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = conditions::pending_status()))]
pub struct TokenUserStatus {
    /// The metadata.generation this status was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The most telling reason among the conditions, for the REASON column. Programs read the
    /// conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_REASON))]
    pub reason: Option<String>,

    /// The sentence that goes with this reason, for the MESSAGE column of kubectl get -o wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,

    /// Ready: the spec is realised. Usable: a read would succeed now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}
