//! The vault: through the API server's proxy, or at its own URL.

use std::sync::Arc;
use std::time::Duration;

use bursar_wire::people::{PERSON_HEADER, PROBLEM_JSON, Problem, TOKEN_HEADER};
use bursar_wire::tls;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kube::Client;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::args::Global;
use crate::error::CliError;
use crate::kubernetes;
use crate::patience::{Failure, Patience};

/// The vault's Service and its port for people.
const SERVICE: &str = "https:bursar-vault:people";
/// How long connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A token is asked for anew before it ends.
const TOKEN_AGE: Duration = Duration::from_secs(8 * 60);

/// The vault, as one service account sees it.
pub(crate) struct Vault {
    client: Client,
    way: Way,
    pub(crate) namespace: String,
    bursar_namespace: String,
    /// Its namespace and name.
    service_account: (String, String),
    person: String,
    token: Option<(String, tokio::time::Instant)>,
}

/// How to get there.
enum Way {
    /// This path of the API server.
    Proxy(String),
    /// HTTPS, verified by Bursar's own CA.
    Direct {
        host: String,
        port: u16,
        name: ServerName<'static>,
        tls: Arc<ClientConfig>,
    },
}

impl Vault {
    /// Finds out who asks. Nothing is sent to the vault yet.
    pub(crate) async fn new(global: &Global, service_account: &str) -> Result<Self, CliError> {
        let way = match (&global.vault, &global.ca_file) {
            (Some(url), Some(ca_file)) => {
                let ca = std::fs::read(ca_file).map_err(|source| CliError::File {
                    path: ca_file.display().to_string(),
                    source,
                })?;
                direct(url, &global.vault_name, &ca)?
            }
            _ => Way::Proxy(proxy(&global.bursar_namespace)),
        };
        let (client, namespace) = kubernetes::connect(global).await?;
        let ask = async || kubernetes::person(&client).await;
        let person = Patience::quick().with(ask).await?;
        Ok(Self {
            client,
            way,
            service_account: account(service_account, &namespace),
            namespace,
            bursar_namespace: global.bursar_namespace.clone(),
            person,
            token: None,
        })
    }

    /// Asks for what is at `path` of the namespace.
    pub(crate) async fn get<A: DeserializeOwned>(
        &mut self,
        path: &str,
        patience: Patience,
    ) -> Result<A, CliError> {
        let call = async || self.call(Method::GET, path, Bytes::new()).await;
        patience.with(call).await
    }

    /// Sends `body` to `path` of the namespace.
    pub(crate) async fn post<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &Q,
        patience: Patience,
    ) -> Result<A, CliError> {
        // Our types have nothing in them that JSON has not.
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        let call = async || self.call(Method::POST, path, body.clone()).await;
        patience.with(call).await
    }

    async fn call<A: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A, Failure> {
        let token = self.token().await?;
        let path = format!("/v1/namespaces/{}/{path}", self.namespace);
        let uri = match &self.way {
            Way::Proxy(prefix) => format!("{prefix}{path}"),
            Way::Direct { .. } => path,
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .header(TOKEN_HEADER, token)
            .header(PERSON_HEADER, &self.person)
            .body(body)
            .map_err(CliError::from)?;
        let answer = match &self.way {
            Way::Proxy(_) => self.through_the_api_server(request).await?,
            Way::Direct {
                host,
                port,
                name,
                tls,
            } => straight((host, *port), name.clone(), Arc::clone(tls), request).await?,
        };
        read(&answer)
    }

    async fn token(&mut self) -> Result<String, Failure> {
        if let Some((token, asked)) = &self.token
            && asked.elapsed() < TOKEN_AGE
        {
            return Ok(token.clone());
        }
        let asked = tokio::time::Instant::now();
        let (of, name) = &self.service_account;
        let token = kubernetes::token(&self.client, of, name).await?;
        self.token = Some((token.clone(), asked));
        Ok(token)
    }

    async fn through_the_api_server(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Failure> {
        let failed = |error: kube::Error| {
            let said = kubernetes::said(&error);
            let advice = String::new();
            Failure::kubernetes(&error, CliError::Proxy { said, advice })
        };
        let response = self
            .client
            .send(request.map(|body| kube::client::Body::from(body.to_vec())))
            .await
            .map_err(failed)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        let response = Response::from_parts(head, body);
        match refused_by_the_api_server(&response) {
            Some(said) => {
                let (status, headers) = (response.status(), response.headers());
                let advice = advice(status, &self.bursar_namespace);
                let error = CliError::Proxy { said, advice };
                Err(Failure::answered(error, status, headers))
            }
            None => Ok(response),
        }
    }
}

/// A name as part of a path: what no name has would be part of the path's own syntax.
pub(crate) fn segment(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    name.chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect()
}

/// The namespace and the name of a service account.
fn account(text: &str, namespace: &str) -> (String, String) {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    (namespace.to_owned(), name.to_owned())
}

/// Where the API server hands requests on to the vault.
fn proxy(bursar_namespace: &str) -> String {
    format!("/api/v1/namespaces/{bursar_namespace}/services/{SERVICE}/proxy")
}

fn direct(url: &str, name: &str, ca_pem: &[u8]) -> Result<Way, CliError> {
    let uri: Uri = url.parse().map_err(|_| CliError::Url)?;
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
    match (uri.scheme_str(), uri.host(), uri.port_u16(), rest) {
        (Some("https"), Some(host), Some(port), "/") => Ok(Way::Direct {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            name: ServerName::try_from(name.to_owned()).map_err(|_| tls::TlsError::ServerName)?,
            tls: Arc::new(tls::people_client_config(ca_pem)?),
        }),
        _ => Err(CliError::Url),
    }
}

async fn straight(
    (host, port): (&str, u16),
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    mut request: Request<Bytes>,
) -> Result<Response<Bytes>, Failure> {
    let away = |cause: String| {
        let url = match host.contains(':') {
            true => format!("https://[{host}]:{port}"),
            false => format!("https://{host}:{port}"),
        };
        Failure::passing(CliError::Connect { url, cause })
    };
    let lost = |error: hyper::Error| away(error.to_string());
    let host_header = name.to_str().into_owned();
    let stream = tokio::time::timeout(CONNECT_DEADLINE, async {
        let tcp = TcpStream::connect((host, port)).await?;
        TlsConnector::from(tls).connect(name, tcp).await
    })
    .await
    .map_err(|_| away("not within 10 seconds".to_owned()))?
    .map_err(|error| away(error.to_string()))?;
    let host_header = host_header
        .parse()
        .map_err(|_| CliError::from(tls::TlsError::ServerName))?;
    request.headers_mut().insert(HOST, host_header);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let exchange = async {
        let response = sender.send_request(request.map(Full::new)).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // It ends first when the server closes it behind its answer.
        _ = connection => exchange.await,
    }
    .map_err(lost)
}

fn content_type(response: &Response<Bytes>) -> &str {
    let value = response.headers().get(CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// What the API server itself says, if it did not hand the request on.
fn refused_by_the_api_server(response: &Response<Bytes>) -> Option<String> {
    if response.status().is_success() || content_type(response) == PROBLEM_JSON {
        return None;
    }
    let status: kube::core::Status = serde_json::from_slice(response.body()).ok()?;
    (!status.message.is_empty()).then_some(status.message)
}

/// What to do when it does not hand a request on.
fn advice(status: StatusCode, bursar_namespace: &str) -> String {
    match status {
        StatusCode::FORBIDDEN => {
            format!(": have the Role bursar-people in namespace {bursar_namespace} bound to you")
        }
        StatusCode::NOT_FOUND => format!(
            ": is Bursar installed in namespace {bursar_namespace}? Give another with \
             --bursar-namespace, or the vault's own URL with --vault"
        ),
        _ => String::new(),
    }
}

fn read<A: DeserializeOwned>(response: &Response<Bytes>) -> Result<A, Failure> {
    let status = response.status();
    let unknown = || CliError::NotTheVault(status.as_u16());
    if status == StatusCode::OK {
        return serde_json::from_slice(response.body()).map_err(|_| unknown().into());
    }
    let problem = (content_type(response) == PROBLEM_JSON)
        .then(|| serde_json::from_slice::<Problem>(response.body()).ok())
        .flatten();
    let error = problem.map_or_else(unknown, CliError::Refused);
    Err(Failure::answered(error, status, response.headers()))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{account, advice, direct, proxy, segment};

    #[test]
    fn what_the_api_server_does_not_hand_on_is_told_with_what_to_do() {
        let forbidden = advice(StatusCode::FORBIDDEN, "bursar-system");
        assert!(forbidden.contains("Role bursar-people in namespace bursar-system"));
        let absent = advice(StatusCode::NOT_FOUND, "bursar-system");
        assert!(absent.contains("--bursar-namespace") && absent.contains("--vault"));
        assert_eq!(advice(StatusCode::BAD_GATEWAY, "bursar-system"), "");
    }

    #[test]
    fn a_name_stays_one_part_of_a_path() {
        assert_eq!(segment("ana.github"), "ana.github");
        assert_eq!(segment("../x?y#z%2f"), ".._x_y_z_2f");
    }

    #[test]
    fn a_service_account_is_of_the_namespace_asked_about_or_of_another() {
        let of = |text| account(text, "team");
        assert_eq!(of("a"), ("team".to_owned(), "a".to_owned()));
        assert_eq!(of("sec/a"), ("sec".to_owned(), "a".to_owned()));
    }

    #[test]
    fn the_api_server_is_asked_for_the_port_for_people_over_https() {
        assert_eq!(
            proxy("bursar-system"),
            "/api/v1/namespaces/bursar-system/services/https:bursar-vault:people/proxy"
        );
    }

    #[test]
    fn the_vaults_own_url_is_https_with_a_port_and_nothing_else() {
        for wrong in [
            "http://v:1",
            "https://v",
            "v:1",
            "https://v:1/path",
            "https://v:1?q",
        ] {
            assert!(direct(wrong, "vault", b"").is_err(), "{wrong}");
        }
    }
}
