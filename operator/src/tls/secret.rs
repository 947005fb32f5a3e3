//! The authority's key and certificate in the operator's own Secret.

use bursar_crds::names;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::authority::{Authority, AuthorityError};

const TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The Kubernetes API cannot say, or refuses.
    #[error("Secret {namespace}/{}: {source}", names::CA_SECRET)]
    Kubernetes {
        /// The operator's namespace.
        namespace: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// The Secret lacks a key.
    #[error(
        "Secret {namespace}/{} has no {CERTIFICATE} or no {KEY}: restore it, or delete it to have a new CA made (brokers then need a restart)",
        names::CA_SECRET
    )]
    Incomplete {
        /// The operator's namespace.
        namespace: String,
    },
    /// What is in the Secret cannot be used.
    #[error("Secret {namespace}/{}: {source}", names::CA_SECRET)]
    Unusable {
        /// The operator's namespace.
        namespace: String,
        /// What is wrong.
        source: AuthorityError,
    },
}

/// The authority in the Secret `bursar-ca`; a new one when there is no such Secret.
///
/// Several replicas may do this at once: one of them creates the Secret, the others adopt it.
pub(crate) async fn load_or_create(
    client: Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Authority, CaError> {
    let secrets = Api::<Secret>::namespaced(client, namespace);
    let failed = |source| CaError::Kubernetes {
        namespace: namespace.to_owned(),
        source: Box::new(source),
    };
    let unusable = |source| CaError::Unusable {
        namespace: namespace.to_owned(),
        source,
    };

    if let Some(secret) = secrets.get_opt(names::CA_SECRET).await.map_err(failed)? {
        return adopt(secret, namespace, now);
    }
    let made = Authority::generate(now).map_err(unusable)?;
    match secrets
        .create(&PostParams::default(), &secret_of(&made))
        .await
    {
        Ok(_) => {
            tracing::info!("a new certificate authority was made");
            Ok(made)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let secret = secrets.get(names::CA_SECRET).await.map_err(failed)?;
            adopt(secret, namespace, now)
        }
        Err(error) => Err(failed(error)),
    }
}

fn adopt(secret: Secret, namespace: &str, now: Timestamp) -> Result<Authority, CaError> {
    let incomplete = || CaError::Incomplete {
        namespace: namespace.to_owned(),
    };
    let mut data = secret.data.unwrap_or_default();
    let mut text = |key| {
        let bytes: ByteString = data.remove(key)?;
        String::from_utf8(bytes.0).ok().map(zeroize::Zeroizing::new)
    };
    let certificate = text(CERTIFICATE).ok_or_else(incomplete)?;
    let key = text(KEY).ok_or_else(incomplete)?;
    Authority::from_pem(&certificate, &key, now).map_err(|source| CaError::Unusable {
        namespace: namespace.to_owned(),
        source,
    })
}

fn secret_of(authority: &Authority) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(names::CA_SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(
            [
                (CERTIFICATE.to_owned(), bytes(authority.certificate_pem())),
                (KEY.to_owned(), bytes(&authority.key_pem())),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}
