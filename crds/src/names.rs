//! Names that objects, policies and programs must agree on. The manifests in `operator/manifests/`
//! say the same names in YAML; `tests/control_plane/rights.rs` compares.

/// API group of the kinds.
pub const GROUP: &str = "bursar.dev";

/// API version of the kinds.
pub const VERSION: &str = "v1alpha1";

/// On every object that has rows in the vault, set before the first row is written, so that a
/// deletion waits until the rows are dead.
pub const FINALIZER: &str = "bursar.dev/vault";

/// Label that marks a Secret as meant for Bursar. Secrets without it are never read.
pub const SOURCE_LABEL: &str = "bursar.dev/source";

/// The one value of [`SOURCE_LABEL`] that counts.
pub const SOURCE_LABEL_VALUE: &str = "true";

/// The only types of Secret a token may come from. Others (service account tokens, TLS keys,
/// image pull credentials) belong to machinery that does not expect to be read from here.
pub const SOURCE_SECRET_TYPES: [&str; 2] = ["Opaque", "kubernetes.io/basic-auth"];

/// The longest token value, in bytes of UTF-8. The shortest is one byte.
pub const MAX_VALUE_BYTES: usize = 32_768;

/// Field manager of all server-side applies by the operator.
pub const FIELD_MANAGER: &str = "bursar-operator";

/// Namespace the operator runs in.
pub const OPERATOR_NAMESPACE: &str = "bursar-system";

/// The operator's service account in [`OPERATOR_NAMESPACE`].
pub const OPERATOR_SERVICE_ACCOUNT: &str = "bursar-operator";

/// Secret in [`OPERATOR_NAMESPACE`] with the key and certificate of Bursar's own CA.
pub const CA_SECRET: &str = "bursar-ca";

/// ConfigMap with the CA's certificate in every onboarded namespace; only the operator writes it.
pub const CA_CONFIG_MAP: &str = "bursar-ca";

/// ConfigMap in [`OPERATOR_NAMESPACE`] that binds the newest checkpoints of the audit.
pub const AUDIT_CHECKPOINT_CONFIG_MAP: &str = "bursar-audit-checkpoint";

/// ClusterRole that a RoleBinding in a namespace gives to the operator: that is onboarding.
pub const ONBOARDED_CLUSTER_ROLE: &str = "bursar-onboarded";

/// Audience of the token a broker shows to the vault. Only nodes may ask for one.
pub const VAULT_AUDIENCE: &str = "bursar-vault";

/// Audience of the token a workload shows to its broker.
pub const WORKLOAD_AUDIENCE: &str = "bursar";

/// Verb on a TokenUser or StoredToken: change `workloads` or `consumers`, or lift a suspension.
pub const VERB_GRANT_ACCESS: &str = "grant-access";

/// Verb on a TokenUser: give any role but `Member`.
pub const VERB_GRANT_ROLE: &str = "grant-role";
