//! The Kubernetes API: who the person is, and a token to show to the vault.

use std::error::Error;

use bursar_wire::people::AUDIENCE;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::{Api, Client, Config};

use crate::args::Global;
use crate::error::{CliError, NoToken};
use crate::patience::Failure;

/// The shortest time the API server gives a token for.
const TOKEN_SECONDS: i64 = 600;
/// The longest name the vault takes.
const LONGEST_PERSON: usize = 128;

/// A client for the kubeconfig, and the namespace to ask about.
pub(crate) async fn connect(global: &Global) -> Result<(Client, String), CliError> {
    // The lines behind the first quote the file.
    let failed = |error: KubeconfigError| {
        let text = error.to_string();
        CliError::Kubeconfig(text.lines().next().unwrap_or_default().to_owned())
    };
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
    let client = Client::try_from(config).map_err(|error| CliError::Client(said(&error)))?;
    Ok((client, namespace))
}

/// Who the API server takes the person for, in characters that the vault takes.
pub(crate) async fn person(client: &Client) -> Result<String, Failure> {
    let review = Api::<SelfSubjectReview>::all(client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .map_err(|error| Failure::kubernetes(&error, unknown(&error)))?;
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
        .map_err(|error| Failure::kubernetes(&error, no_token(&error, namespace, name)))?;
    Ok(answer.status.map(|status| status.token).unwrap_or_default())
}

/// What the API server answered to a request that it refused.
fn refusal(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// What the API server said in words, or why it said nothing.
pub(crate) fn said(error: &kube::Error) -> String {
    if let Some(status) = refusal(error) {
        let words = [&status.message, &status.reason];
        let words = words.into_iter().find(|words| !words.is_empty());
        return words.map_or_else(|| format!("HTTP {}", status.code), Clone::clone);
    }
    // Most causes say no more than their kind.
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
        source = cause.source();
    }
    said
}

/// Why it is not known who the person is.
fn unknown(error: &kube::Error) -> CliError {
    match refusal(error).map(|status| status.code) {
        // Forbidden is who comes without any credentials.
        Some(401 | 403) => CliError::NotLoggedIn(said(error)),
        _ => CliError::WhoAmI(said(error)),
    }
}

/// Why there is no token of a service account.
fn no_token(error: &kube::Error, namespace: &str, name: &str) -> CliError {
    let said = said(error);
    let status = refusal(error);
    let missing = status.and_then(|status| status.details.as_ref());
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let why = match status.map(|status| status.code) {
        Some(401) => return CliError::NotLoggedIn(said),
        Some(403) => NoToken::NoRight {
            namespace,
            name,
            said,
        },
        Some(404) if missing.is_some_and(|details| details.kind == "namespaces") => {
            NoToken::Namespace { namespace }
        }
        Some(404) => NoToken::Account { namespace, name },
        _ => NoToken::Other {
            namespace,
            name,
            said,
        },
    };
    why.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{no_token, plain, said, unknown};

    /// What the API server answers with.
    fn refused(code: u16, kind: &str, message: &str) -> kube::Error {
        let status = json!({
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "message": message,
            "details": { "kind": kind },
        });
        kube::Error::Api(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn why_there_is_no_token_is_said_with_what_to_do_in_the_words_of_the_api() {
        let why = |code, kind| {
            let error = refused(code, kind, "words of the API");
            no_token(&error, "team", "bursar-auditor").to_string()
        };
        for (code, kind, parts) in [
            (401, "", ["not logged in", "(words of the API)"]),
            (
                403,
                "serviceaccounts",
                ["create for serviceaccounts/token", "(words of the API)"],
            ),
            (404, "namespaces", ["no namespace team", "-n"]),
            (
                404,
                "serviceaccounts",
                [
                    "no service account bursar-auditor",
                    "people.yaml in namespace team",
                ],
            ),
            (500, "", ["team/bursar-auditor", ": words of the API"]),
        ] {
            let told = why(code, kind);
            for part in parts {
                assert!(told.contains(part), "{part} is not in: {told}");
            }
            assert!(!told.contains("Status"), "{told}");
        }
    }

    #[test]
    fn who_is_not_logged_in_hears_that() {
        for code in [401, 403] {
            let told = unknown(&refused(code, "", "Unauthorized")).to_string();
            assert!(told.starts_with("you are not logged in"), "{told}");
        }
        let told = unknown(&refused(500, "", "etcd is away")).to_string();
        assert!(told.ends_with("who you are: etcd is away"), "{told}");
    }

    #[test]
    fn an_api_server_that_does_not_answer_is_told_with_the_cause() {
        let cause = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(cause));
        let told = said(&error);
        assert_eq!(told.matches("connection refused").count(), 1, "{told}");
    }

    #[test]
    fn a_name_is_sent_in_plain_characters() {
        assert_eq!(plain("oidc:ana@example.com"), "oidc:ana@example.com");
        assert_eq!(plain("_Zoë <z>"), "Zo_ _z_");
        assert_eq!(plain(""), "unknown");
        assert_eq!(plain(&"a".repeat(200)).len(), 128);
    }
}
