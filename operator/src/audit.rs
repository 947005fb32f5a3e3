//! Checkpoints of the audit, and the ConfigMap that binds the newest of them outside the
//! database. Whoever sets the database back to an older state is found by it.

use std::sync::Arc;

use bursar_crds::names::{AUDIT_CHECKPOINT_CONFIG_MAP as NAME, FIELD_MANAGER};
use bursar_vault::{Anchor, Category, Checkpoints, VaultError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::context::Context;
use crate::refused;

const TIME: &str = "checkpointTime";
const HASH: &str = "sha256";

/// Why the ConfigMap does not bind the newest checkpoints.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnchorError {
    /// The Kubernetes API cannot say, or refuses.
    #[error(
        "ConfigMap {namespace}/{NAME} cannot be read or written: {}",
        refused::of_call(.source).map_or_else(|| .source.to_string(), |status| status.message.clone())
    )]
    Kubernetes {
        /// The operator's namespace.
        namespace: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// It has something else in it.
    #[error(
        "ConfigMap {namespace}/{NAME} does not have the {TIME} and {HASH} that the operator wrote: \
         somebody changed it; verify the audit, then delete it to have it made anew"
    )]
    Unreadable {
        /// The operator's namespace.
        namespace: String,
    },
    /// The database does not have what it binds.
    #[error(
        "the checkpoints in the database are not those that ConfigMap {namespace}/{NAME} binds: the \
         database was set back to an older state, or checkpoints were removed; it stays as it is, \
         for `kubectl bursar audit verify`, until somebody has looked into this and deletes it"
    )]
    SetBack {
        /// The operator's namespace.
        namespace: String,
    },
    /// The vault failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Writes checkpoints for as long as it is polled, or until another process leads.
pub(crate) async fn keep_checkpoints(context: Arc<Context>, namespace: String) {
    let mut told = None;
    loop {
        tokio::time::sleep(context.timing.audit_checkpoint).await;
        let limit = context.timing.audit_checkpoint_limit;
        let attempt = tokio::time::timeout(limit, checkpoint(&context, &namespace)).await;
        let failure = match attempt {
            Ok(Ok(())) => {
                context.metrics.checkpointed(context.clock.now());
                told = None;
                continue;
            }
            Ok(Err(AnchorError::Vault(error))) if error.category() == Category::Superseded => {
                context.superseded.stop();
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "checkpoints were not written and bound within {} s: see whether the database and \
                 the API server answer",
                limit.as_secs()
            ),
        };
        context.metrics.checkpoints_failed(1);
        if told.as_ref() == Some(&failure) {
            tracing::debug!("still: {failure}");
        } else {
            tracing::error!("{failure}");
            told = Some(failure);
        }
    }
}

async fn checkpoint(context: &Context, namespace: &str) -> Result<(), AnchorError> {
    let Checkpoints {
        anchor: newest,
        passed_over,
    } = context.vault.checkpoint_all().await?;
    context.metrics.checkpoints_failed(passed_over);
    let kept = read(&context.client, namespace).await?;
    if kept == newest {
        return Ok(());
    }
    // Whatever was set back, even to no checkpoint at all, would be forgotten with the
    // next write.
    if let Some(kept) = &kept
        && !context.vault.vault().has_anchor(kept).await?
    {
        let namespace = namespace.to_owned();
        return Err(AnchorError::SetBack { namespace });
    }
    match newest {
        Some(newest) => write(&context.client, namespace, &newest).await,
        None => Ok(()),
    }
}

/// What the ConfigMap binds; `None` when there is none.
pub(crate) async fn read(client: &Client, namespace: &str) -> Result<Option<Anchor>, AnchorError> {
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let found = config_maps.get_opt(NAME).await.map_err(failed(namespace))?;
    let Some(data) = found.map(|map| map.data.unwrap_or_default()) else {
        return Ok(None);
    };
    let time = data
        .get(TIME)
        .and_then(|text| text.parse::<Timestamp>().ok());
    let mut sha256 = [0; 32];
    let hash = data.get(HASH);
    let hash = hash.and_then(|text| hex::decode_to_slice(text, &mut sha256).ok());
    match (time, hash) {
        (Some(time), Some(())) => Ok(Some(Anchor {
            checkpoint_time: time.into(),
            sha256,
        })),
        _ => Err(AnchorError::Unreadable {
            namespace: namespace.to_owned(),
        }),
    }
}

async fn write(client: &Client, namespace: &str, anchor: &Anchor) -> Result<(), AnchorError> {
    let time = anchor.checkpoint_time.timestamp();
    let config_map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": NAME,
            "labels": { "app.kubernetes.io/managed-by": FIELD_MANAGER },
        },
        "data": {
            TIME: time.map(|time| time.to_string()),
            HASH: hex::encode(anchor.sha256),
        },
    });
    // By force: whoever else set these keys has no business there.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .patch(NAME, &params, &Patch::Apply(&config_map))
        .await
        .map_err(failed(namespace))?;
    Ok(())
}

fn failed(namespace: &str) -> impl FnOnce(kube::Error) -> AnchorError {
    let namespace = namespace.to_owned();
    |source| AnchorError::Kubernetes {
        namespace,
        source: Box::new(source),
    }
}
