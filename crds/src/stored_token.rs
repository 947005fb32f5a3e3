//! StoredToken: a token of one user for one provider, and where its values come from.
#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct with its visibility into a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::conditions::{self, Condition};
use crate::syntax::{
    self, MAX_MESSAGE, MAX_NAME, MAX_PREFIX, MAX_PROVIDER, MAX_PURPOSE, MAX_REASON, MAX_UID,
};

/// A token of one user for one provider. The object's name is what callers ask for.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "bursar.dev",
    version = "v1alpha1",
    kind = "StoredToken",
    namespaced,
    status = "StoredTokenStatus",
    derive = "PartialEq",
    doc = "StoredToken is a token of one user for one provider, and where its values come from. \
           Its name is what callers ask for.",
    shortname = "stok",
    category = "bursar",
    selectable = ".spec.userRef.name",
    selectable = ".spec.provider",
    validation = Rule::new(
        "self.metadata.name != 'accesses' && self.metadata.name.size() <= 63 \
         && !self.metadata.name.contains('.')"
    )
    .message(
        "A StoredToken's name is what callers ask for: give it at most 63 characters, no dots, \
         and not the name accesses, which is part of the API's paths."
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
    printcolumn(name = "User", type_ = "string", json_path = ".spec.userRef.name"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".status.version"),
    // A string: a column of type date prints a time in the future as <invalid>.
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expirationTime"),
    printcolumn(name = "Last Used", type_ = "date", json_path = ".status.lastUsedTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // Only with -o wide.
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[x_kube(
    // On the spec, because a rule on a field is not run when the field is removed.
    validation = Rule::new(
        "!has(oldSelf.revocation) || (has(self.revocation) \
         && self.revocation.throughVersion >= oldSelf.revocation.throughVersion)"
    )
    .message(
        "revocation.throughVersion may only rise: a revoked version stays dead, so keep the old \
         number or give a higher one."
    )
    .field_path(".revocation")
)]
#[serde(rename_all = "camelCase")]
pub struct StoredTokenSpec {
    /// Whose token this is. It cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "userRef cannot be changed: a token belongs to one user, so make a new StoredToken \
             for the other one."
        ))]
    pub user_ref: UserRef,

    /// The service the token is for, in lower case and at most 63 characters: github, slack,
    /// gitlab.example.com. It stands in every answer to a reader. It cannot be changed.
    #[schemars(length(max = MAX_PROVIDER))]
    #[x_kube(validation = syntax::dns_subdomain("A provider", "github or gitlab.example.com"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "provider cannot be changed: a token is for one service, so make a new StoredToken \
             for the other one."
        ))]
    pub provider: String,

    /// Where the values come from: exactly one of secretKeyRef (the value is in a Secret) and
    /// generate (the vault makes one). Which of the two it is cannot be changed.
    #[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.generate)")
        .message(
            "source must have exactly one of secretKeyRef (the value is in a Secret) and generate \
             (the vault makes one)."
        ))]
    #[x_kube(validation = Rule::new("has(self.generate) == has(oldSelf.generate)")
        .message(
            "source cannot change between secretKeyRef and generate: make a new StoredToken with \
             the other source."
        ))]
    pub source: Source,

    /// When the token stops being served, whatever its source says: a time as in RFC 3339, for
    /// example 2027-01-31T00:00:00Z, by the clock of the vault's database. Never, if left out.
    ///
    /// It may be changed at any time. After it has passed, a later one (or none) serves the newest
    /// version again: to end a token for good, revoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,

    /// Narrows who may read the token and what for, among the user's workloads; all of them, for
    /// any purpose, if left out. 1 to 16 service accounts, for example
    /// [{serviceAccountName: app, purposes: [sync-repositories]}].
    ///
    /// It gives nobody a right who is not in spec.workloads of the TokenUser: when none of the
    /// consumers is, nobody can read the token, and the condition Usable is False with NoReader. A
    /// change asks the writer for the verb grant-access on this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["serviceAccountName".into()]),
        validation = Rule::new("self.size() > 0")
            .message(
                "consumers must list at least one service account: leave the field out to let all \
                 of the user's workloads read the token."
            )
    )]
    pub consumers: Option<Vec<Consumer>>,

    /// Versions that are taken back. Leave it out until there is one; {throughVersion: 2} takes
    /// back versions 1 and 2, and once set it cannot be removed.
    ///
    /// A revoked version is dead at once and for good, in every pod. Its value is refused in this
    /// namespace from whatever source it comes back (RevokedValueReused). To serve the token again,
    /// put a new value into the Secret. With source generate, the vault makes a new value at once: to
    /// end such a token, suspend its user or delete this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,

    /// What becomes of the stored values when this object is deleted. Either way all of them are
    /// dead at once: nothing of the token is served any more.
    ///
    /// Retain keeps the encrypted values and their keys for 7 days and destroys the keys then; there
    /// is no command yet that brings a deleted token back. Shred destroys the keys at once: nothing
    /// brings the values back, except a backup of the database that still has the keys. What counts
    /// is the policy at the moment of the deletion; it may be changed until then.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// The TokenUser that a token belongs to.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRef {
    /// Name of a TokenUser in this namespace, for example ana. It may be created later; until then
    /// the condition Ready is False with UserNotFound.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a TokenUser", "ana"))]
    pub name: String,
}

/// Where values come from. The API server admits objects with exactly one of the fields only.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The value is a key of a Secret; each change of it is stored as a new version, usually within
    /// a second. Another Secret or key may be named at any time. The writer needs the right to get
    /// that Secret.
    ///
    /// When the Secret, its label or the key goes away, the condition Ready turns False and the
    /// newest version is served on: to stop that, revoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,

    /// The vault makes a random value: one, and the next one at once when that is revoked, so to stop
    /// the token suspend its user or delete this object. It cannot be changed. {} stands for
    /// {format: Base62, length: 32}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message(
            "generate cannot be changed, because the value already made would not match: make a \
             new StoredToken."
        ))]
    pub generate: Option<Generate>,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of a Secret in this namespace, for example github-ana: with the label
    /// bursar.dev/source: "true", and of type Opaque or kubernetes.io/basic-auth.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a Secret", "github-ana"))]
    pub name: String,

    /// Key in the Secret's data, for example token. Its value is 1 to 32,768 bytes of UTF-8 and
    /// used as it is: a newline at the end is part of it, and is warned of by an event of the reason
    /// ValueEndsInWhitespace.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::secret_key())]
    pub key: String,
}

/// How the vault makes a random value.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
// A Base62 character carries 5.95 bits and a Hex character 4.
#[x_kube(validation = Rule::new("self.length >= (self.format == 'Hex' ? 32 : 22)")
    .message(
        "generate must give at least 128 bits: set length to 22 or more for Base62, to 32 or more \
         for Hex (the prefix does not count)."
    )
    .field_path(".length"))]
pub struct Generate {
    /// The characters to choose from: Base62 (0-9, A-Z and a-z) or Hex (0-9 and a-f).
    #[serde(default)]
    pub format: GenerateFormat,

    /// Number of random characters, without the prefix: at most 1024, and at least 22 for Base62 or
    /// 32 for Hex, so that there are 128 random bits.
    #[serde(default = "Generate::default_length")]
    // The rule above says what is too short.
    #[schemars(range(max = 1024))]
    pub length: i64,

    /// Stands in front of the random characters, so that people and scanners know what they see,
    /// for example app_. Letters, digits, '.', '_' and '-', at most 64 of them; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_PREFIX))]
    #[x_kube(validation = syntax::prefix())]
    pub prefix: Option<String>,
}

impl Generate {
    /// At least 128 bits in either format.
    fn default_length() -> i64 {
        32
    }
}

/// The characters of a generated value.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum GenerateFormat {
    /// 0-9, A-Z and a-z.
    #[default]
    Base62,
    /// 0-9 and a-f.
    Hex,
}

/// A service account that may read the token, and what for.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// Name of a ServiceAccount among the user's workloads, for example app.
    #[schemars(length(max = MAX_NAME))]
    #[x_kube(validation = syntax::dns_subdomain("The name of a ServiceAccount", "app"))]
    pub service_account_name: String,

    /// The purposes it may give when it reads the token, compared byte for byte; any if left out.
    /// 1 to 16 of at most 64 characters each, for example [sync-repositories].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = MAX_PURPOSE)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = syntax::purposes(),
        validation = Rule::new("self.size() > 0")
            .message("purposes must list at least one purpose: leave the field out to allow any.")
    )]
    pub purposes: Option<Vec<String>>,
}

/// Versions that are taken back.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revocation {
    /// Every version up to this one is dead: 1 to 1,000,000,000, and it may only rise. The newest
    /// version is in the column VERSION of kubectl get storedtokens (status.version). The next value
    /// becomes version max(newest, throughVersion) + 1. An object that is deleted and made anew
    /// counts from 1 again, or from throughVersion + 1 if that is set in it.
    // Bounded so that a slip of the hand cannot leave a token without numbers.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub through_version: i64,
}

/// What becomes of a token's versions when its object is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// They are dead at once, and their ciphertext is kept for 7 days.
    #[default]
    Retain,
    /// Their keys are destroyed at once; nothing brings them back.
    Shred,
}

/// What became of the spec. Written by the operator only; never a value or anything made from one.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = conditions::pending_status()))]
pub struct StoredTokenStatus {
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

    /// The newest version stored, dead or alive. Versions count from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,

    /// When the newest version was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_time: Option<Time>,

    /// UID of the TokenUser the newest version belongs to. Another user of the same name is served
    /// nothing of it.
    #[serde(default, rename = "userUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_UID))]
    pub user_uid: Option<String>,

    /// When a use of the token was recorded; none that is on record is more than 10 minutes later,
    /// because it is not written more often than that. Without it, no use is known of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_time: Option<Time>,

    /// The ServiceAccount of the pod that used the token then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_NAME))]
    pub last_used_by: Option<String>,

    /// Only there while brokers have yet to confirm that they have given up what was taken back: a
    /// revoked version, or all versions when the user is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<Draining>,

    /// When the last of what was taken back was: a version was revoked, or the user suspended. No
    /// broker holds any of it once draining is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back_time: Option<MicroTime>,

    /// Ready: the spec is realised. Usable: a read would succeed now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::schema")]
    pub conditions: Vec<Condition>,
}

/// Who still holds what was taken back.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Draining {
    /// Brokers that have yet to confirm.
    pub brokers: i64,

    /// By then it is over, whether they confirm or not: what a broker was granted has ended, and
    /// what it did not account for is on record.
    pub certain_time: Time,
}
