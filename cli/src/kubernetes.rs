//! The Kubernetes API: who the person is, and a token to show to the vault.

use bursar_wire::people::AUDIENCE;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::args::Global;
use crate::error::CliError;
use crate::patience::Failure;

/// The shortest time the API server gives a token for.
const TOKEN_SECONDS: i64 = 600;
/// The longest name the vault takes.
const LONGEST_PERSON: usize = 128;

/// A client for the kubeconfig, and the namespace to ask about.
pub(crate) async fn connect(global: &Global) -> Result<(Client, String), CliError> {
    let failed = |error| CliError::Kubeconfig(Box::new(error));
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match &global.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        // Of the variable, which may name several, or none.
        None => Config::from_kubeconfig(&options).await,
    }
    .map_err(failed)?;
    let namespace = global.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| CliError::Client(Box::new(error)))?;
    Ok((client, namespace))
}

/// Who the API server takes the person for, in characters that the vault takes.
pub(crate) async fn person(client: &Client) -> Result<String, Failure> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|error| Failure::kubernetes(error, |error| CliError::WhoAmI(Box::new(error))))?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(plain(
        &user.and_then(|user| user.username).unwrap_or_default(),
    ))
}

/// What is not allowed in a person's name becomes `_`; nothing does for nobody.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._:/@=,+#-".contains(c);
    let mut plain: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LONGEST_PERSON)
        .collect();
    if plain.is_empty() {
        plain.push_str("unknown");
    }
    plain
}

/// A token of the service account, for the vault's service for people alone.
pub(crate) async fn token(client: &Client, namespace: &str, name: &str) -> Result<String, Failure> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let answer = Api::<ServiceAccount>::namespaced(client.clone(), namespace)
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .map_err(|error| {
            Failure::kubernetes(error, |source| CliError::Token {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                source: Box::new(source),
            })
        })?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_name_is_sent_in_plain_characters() {
        assert_eq!(plain("oidc:ana@example.com"), "oidc:ana@example.com");
        assert_eq!(plain("_Zoë <z>"), "Zo_ _z_");
        assert_eq!(plain(""), "unknown");
        assert_eq!(plain(&"a".repeat(200)).len(), 128);
    }
}
