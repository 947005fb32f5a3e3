//! A namespace on the shared API server, and what tests do in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bursar_testbed::{Handle, shared, until};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config, ResourceExt};
use tokio::sync::OnceCell;

/// Policies and rights take effect when the API server's watches have seen them.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// A file or folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// All objects in the YAML files of a folder.
pub(crate) fn objects_in(folder: &str) -> Vec<DynamicObject> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(repository(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| objects(&std::fs::read_to_string(file).unwrap()))
        .collect()
}

/// All documents of a YAML text.
pub(crate) fn objects(yaml: &str) -> Vec<DynamicObject> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

/// One namespace, as one person sees it.
pub(crate) struct Cluster {
    pub(crate) testbed: Handle,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// A namespace of its own, as the cluster's admin, with kinds, rights and policies installed.
    pub(crate) async fn new() -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let testbed = shared();
        let client = testbed.client().await.unwrap();
        let install = async || testbed.install_bursar().await.unwrap();
        INSTALLED.get_or_init(install).await;
        let namespace = testbed.namespace("crds").await.unwrap();
        Self {
            testbed,
            client,
            namespace,
        }
    }

    /// The same namespace as `user` of `groups` sees it.
    pub(crate) async fn as_user(&self, user: &str, groups: &[&str]) -> Self {
        let mut config = self.config(self.testbed.kubeconfig()).await;
        config.auth_info.impersonate = Some(user.into());
        config.auth_info.impersonate_groups =
            Some(groups.iter().map(|g| (*g).to_owned()).collect());
        self.with(config)
    }

    /// The same namespace as the operator sees it, with a token of its service account.
    pub(crate) async fn as_operator(&self) -> Self {
        let kubeconfig = self
            .testbed
            .kubeconfig_for_service_account("bursar-system", "bursar-operator")
            .await
            .unwrap();
        self.with(self.config(&kubeconfig).await)
    }

    async fn config(&self, kubeconfig: &Path) -> Config {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap()
    }

    fn with(&self, config: Config) -> Self {
        Self {
            testbed: self.testbed.clone(),
            client: Client::try_from(config).unwrap(),
            namespace: self.namespace.clone(),
        }
    }

    /// Gives `user` rights in this namespace: those of ClusterRoles, and those in `rules` (the
    /// `rules` of a Role).
    pub(crate) async fn allow(&self, user: &str, cluster_roles: &[&str], rules: &str) {
        let subject =
            format!("{{apiGroup: rbac.authorization.k8s.io, kind: User, name: '{user}'}}");
        let binding = |name: &str, kind: &str, role: &str| {
            format!(
                "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, \
                 metadata: {{name: '{name}'}}, subjects: [{subject}], \
                 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: '{role}'}}}}"
            )
        };
        for role in cluster_roles {
            let yaml = binding(&format!("{user}-{role}"), "ClusterRole", role);
            self.apply(&yaml).await.unwrap();
        }
        let role = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: '{user}'}}, rules: {rules}}}"
        );
        self.apply(&role).await.unwrap();
        self.apply(&binding(user, "Role", user)).await.unwrap();
    }

    /// Applies one object; what the API server says when it refuses.
    pub(crate) async fn apply(&self, yaml: &str) -> Result<DynamicObject, String> {
        apply(&self.client, &self.object(yaml), false).await
    }

    /// Applies one object as soon as the right to is in effect.
    pub(crate) async fn allowed(&self, yaml: &str) -> DynamicObject {
        allowed(async || self.apply(yaml).await).await
    }

    /// What an admission policy says against one object, without writing it.
    pub(crate) async fn refused(&self, yaml: &str) -> String {
        let object = self.object(yaml);
        refusal(async || apply(&self.client, &object, true).await.err()).await
    }

    /// Changes the fields of an object that are given, as soon as the right to is in effect.
    pub(crate) async fn change_allowed(&self, yaml: &str) -> DynamicObject {
        let object = self.object(yaml);
        allowed(async || change(&self.client, &object, false).await).await
    }

    /// What an admission policy says against such a change, without making it.
    pub(crate) async fn change_refused(&self, yaml: &str) -> String {
        let object = self.object(yaml);
        refusal(async || change(&self.client, &object, true).await.err()).await
    }

    /// One object in this namespace.
    pub(crate) fn object(&self, yaml: &str) -> DynamicObject {
        let mut object = objects(yaml).remove(0);
        object.metadata.namespace = Some(self.namespace.clone());
        object
    }
}

/// What `attempt` makes, as soon as it is not refused any more.
///
/// # Panics
/// When it is refused for good, with the last answer.
async fn allowed(attempt: impl AsyncFn() -> Result<DynamicObject, String>) -> DynamicObject {
    match until(LIMIT, PAUSE, async || attempt().await.ok()).await {
        Some(object) => object,
        None => panic!("refused: {:?}", attempt().await.err()),
    }
}

/// What an admission policy says, as soon as one refuses `attempt`, which must write nothing.
///
/// # Panics
/// When none refuses it, with the last answer.
pub(crate) async fn refusal(mut attempt: impl AsyncFnMut() -> Option<String>) -> String {
    let mut last = None;
    let refused = until(LIMIT, PAUSE, async || {
        last = attempt().await;
        last.clone()
            .filter(|message| message.contains("ValidatingAdmissionPolicy"))
    })
    .await;
    refused.unwrap_or_else(|| panic!("no policy refused: {last:?}"))
}

/// Server-side apply with strict fields, as `kubectl apply --server-side` does it.
pub(crate) async fn apply(
    client: &Client,
    object: &DynamicObject,
    dry_run: bool,
) -> Result<DynamicObject, String> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply("test").validation_strict()
    };
    api(client, object)
        .patch(&object.name_any(), &params, &Patch::Apply(object))
        .await
        .map_err(message)
}

/// Merge patch, as `kubectl edit` and `kubectl patch --type merge` do it.
async fn change(
    client: &Client,
    object: &DynamicObject,
    dry_run: bool,
) -> Result<DynamicObject, String> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::default()
    };
    api(client, object)
        .patch(&object.name_any(), &params, &Patch::Merge(object))
        .await
        .map_err(message)
}

/// The API for the kind of an object, in its namespace if it has one.
pub(crate) fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.as_ref().unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types).unwrap());
    match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

/// What the API server said.
pub(crate) fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => panic!("no answer: {other}"),
    }
}
