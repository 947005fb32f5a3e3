//! TokenQuota: how often something may be done, over all pods together.
#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its visibility into a function"
)]
#![expect(
    clippy::duplicated_attributes,
    reason = "every column says its type, and many have the same"
)]

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{self, Condition};
use crate::stored_token::UserRef;
use crate::syntax::{self, MAX_COUNTER, MAX_MESSAGE, MAX_NAME, MAX_REASON, MAX_SUBJECT};
use crate::window::Window;

/// How often something may be done. What was used belongs to subject, counter and window, so
/// making the object anew does not reset it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "bursar.dev",
    version = "v1alpha1",
    kind = "TokenQuota",
    namespaced,
    status = "TokenQuotaStatus",
    derive = "PartialEq",
    doc = "TokenQuota limits how often tokens are read, or how often an application does what it \
           counts itself, over all pods together.",
    shortname = "tquota",
    category = "bursar",
    selectable = ".spec.subject.userRef.name",
    selectable = ".spec.counter",
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
    printcolumn(name = "Subject", type_ = "string", json_path = ".status.subject"),
    printcolumn(name = "Counter", type_ = "string", json_path = ".spec.counter"),
    printcolumn(name = "Limit", type_ = "integer", json_path = ".spec.limit"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.used"),
    // A string: a column of type date prints a time in the future as <invalid>.
    printcolumn(name = "Resets", type_ = "string", json_path = ".status.windowEndTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // Only with -o wide.
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!has(self.subject.tokenRef) || self.counter == 'accesses'")
        .message(
            "counter must be accesses for a tokenRef: applications count for a user or a service \
             account, not for a token."
        )
        .field_path(".counter")
)]
#[serde(rename_all = "camelCase")]
pub struct TokenQuotaSpec {
    /// Whose use is limited; exactly one of the fields.
    #[x_kube(validation = Rule::new(
        "[has(self.userRef), has(self.tokenRef), has(self.serviceAccountName), has(self.each)]\
         .exists_one(present, present)"
    )
    .message(
        "subject must have exactly one of userRef, tokenRef, serviceAccountName and each (each: \
         User is a default for every user)."
    ))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "subject cannot be changed, because what was used belongs to it: make a new TokenQuota \
             for the other one."
        ))]
    pub subject: Subject,

    /// What is counted: accesses are reads of tokens; any other name, for example filesUploaded, is
    /// an application's own, which it consumes itself.
    #[schemars(length(max = MAX_COUNTER))]
    #[x_kube(validation = syntax::counter())]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "counter cannot be changed, because what was used belongs to it: make a new TokenQuota \
             for the other one."
        ))]
    pub counter: String,

    /// How many are allowed in one window. 0 allows none.
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub limit: i64,

    /// How long it counts before it starts anew.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "window cannot be changed, because what was used belongs to it: make a new TokenQuota \
             with the other one."
        ))]
    pub window: Window,

    /// What happens past the limit. Enforce refuses more until the window ends or the limit is
    /// raised; Warn allows and counts it, and Usable gets the reason Exceeded.
    #[serde(default)]
    pub enforcement: Enforcement,
}

/// Whose use is limited. The API server admits objects with exactly one of the fields only.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// One user, in all workloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_ref: Option<UserRef>,

    /// One token, whoever reads it. Only for accesses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ref: Option<TokenRef>,

    /// Name of a ServiceAccount in this namespace: all of its pods together, for whichever user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a ServiceAccount", "app"))]
    pub service_account_name: Option<String>,

    /// A default for every user that has no quota of their own for the same counter and window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
}

/// As the column SUBJECT shows it: `user/ana`, `token/github`, `serviceaccount/app`, `each user`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user_ref {
            write!(f, "user/{}", user.name)
        } else if let Some(token) = &self.token_ref {
            write!(f, "token/{}", token.name)
        } else if let Some(account) = &self.service_account_name {
            write!(f, "serviceaccount/{account}")
        } else {
            f.write_str(self.each.map_or("", |Each::User| "each user"))
        }
    }
}

/// A StoredToken.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRef {
    /// Name of a StoredToken in this namespace.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a StoredToken", "github"))]
    pub name: String,
}

// An optional enum is explained by what stands here, not by what stands on its field.
/// A default: each user alone has the limit, but for those who have a quota of their own for the
/// same counter and window.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Each {
    /// Every TokenUser in this namespace.
    User,
}

/// What happens past the limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Enforcement {
    /// More is refused until the window ends or the limit is raised.
    #[default]
    Enforce,
    /// More is allowed and counted, and `Usable` gets the reason `Exceeded`.
    Warn,
}

/// What became of the spec, and roughly how much is used. Written by the operator only.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = conditions::pending_status()))]
pub struct TokenQuotaStatus {
    /// The metadata.generation this status was written for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The most telling reason among the conditions, for the REASON column. Programs read the
    /// conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_REASON))]
    pub reason: Option<String>,

    /// What that reason means here and what to do, for the MESSAGE column of kubectl get -o wide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,

    /// The subject in one word, for the SUBJECT column. Programs read the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_SUBJECT))]
    pub subject: Option<String>,

    /// How many of the limit are used in the current window. Written in steps: the limit holds
    /// exactly, this number follows. Absent for each: User, where everyone has a number of their
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub used: Option<i64>,

    /// When the current window ends and a new one begins. Absent for a lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_end_time: Option<Time>,

    /// From then on the limit holds exactly: nothing is left that was handed out before the vault
    /// knew this quota. Absent until that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_from_time: Option<Time>,

    /// Ready: the spec is realised. Usable: a read would succeed now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_as_its_kind_and_name() {
        for (subject, word) in [
            (r#"{"userRef": {"name": "ana"}}"#, "user/ana"),
            (r#"{"tokenRef": {"name": "github"}}"#, "token/github"),
            (r#"{"serviceAccountName": "app"}"#, "serviceaccount/app"),
            (r#"{"each": "User"}"#, "each user"),
        ] {
            let subject: Subject = serde_json::from_str(subject).unwrap();
            assert_eq!(subject.to_string(), word);
        }
    }

    #[test]
    fn the_longest_subject_fits_into_the_status() {
        let longest = Subject {
            user_ref: None,
            token_ref: None,
            service_account_name: Some("a".repeat(MAX_NAME as usize)),
            each: None,
        };
        assert_eq!(longest.to_string().len(), MAX_SUBJECT as usize);
    }
}
