//! `kubectl bursar`, and requests to the service behind it that no tool of ours would make.

use std::path::PathBuf;
use std::sync::Arc;

use bursar_cli::{Args, CliError, run};
use bursar_testbed::until;
use clap::Parser;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::operator::{LIMIT, PAUSE, VAULT_NAME};
use crate::team::Team;

/// What a command printed, and whether it said that all is well.
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) success: bool,
}

impl Team {
    /// Lets a service account of this namespace, made if it is new, do what a ClusterRole says.
    pub(crate) async fn bind(&self, account: &str, role: &str) {
        self.testbed
            .create_service_account(&self.namespace, account)
            .await
            .ok();
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": format!("{account}-{role}") },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [{
                "kind": "ServiceAccount", "name": account, "namespace": self.namespace,
            }],
        }))
        .await;
    }

    /// Runs the command as an administrator of the cluster, at the vault's own URL.
    pub(crate) async fn bursar(&self, args: &[&str]) -> Result<Printed, CliError> {
        let url = format!("https://127.0.0.1:{}", self.operator.people_port());
        let ca_file = self.ca_file().await;
        let direct = ["--vault", &url, "--ca-file", ca_file.to_str().unwrap()];
        self.bursar_by(&direct, args).await
    }

    /// Runs it on another way.
    pub(crate) async fn bursar_by(&self, way: &[&str], args: &[&str]) -> Result<Printed, CliError> {
        let kubeconfig = self.testbed.kubeconfig().to_str().unwrap();
        let global = [
            "kubectl-bursar",
            "--kubeconfig",
            kubeconfig,
            "-n",
            &self.namespace,
        ];
        let args = Args::try_parse_from(global.iter().chain(way).chain(args)).unwrap();
        let mut out = Vec::new();
        let now = || jiff::Timestamp::from_second(4_000_000_000).unwrap();
        let code = run(args, &now, &mut out).await?;
        Ok(Printed {
            out: String::from_utf8(out).unwrap(),
            success: format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS),
        })
    }

    pub(crate) async fn ca(&self) -> String {
        let ca = until(LIMIT, PAUSE, async || {
            let map = self.api::<ConfigMap>().get_opt("bursar-ca").await.unwrap();
            map?.data?.remove("ca.crt")
        });
        ca.await.unwrap()
    }

    async fn ca_file(&self) -> PathBuf {
        let path = self
            .testbed
            .folder()
            .join(format!("{}.ca.crt", self.namespace));
        std::fs::write(&path, self.ca().await).unwrap();
        path
    }

    /// A token of a service account here, for an audience.
    pub(crate) async fn token_of(&self, account: &str, audience: &str) -> String {
        self.testbed
            .service_account_token(&self.namespace, account, audience, None)
            .await
            .unwrap()
    }

    /// Sends a request to the service for people, as it stands: status and body.
    pub(crate) async fn ask(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let tls = bursar_wire::tls::people_client_config(self.ca().await.as_bytes()).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", self.operator.people_port()))
            .await
            .unwrap();
        let name = ServerName::try_from(VAULT_NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(tls))
            .connect(name, tcp)
            .await
            .unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server that closes without a TLS goodbye has still answered.
        let _ = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

/// The code of the problem that a command ended with.
pub(crate) fn code(result: Result<Printed, CliError>) -> String {
    match result {
        Err(CliError::Refused(problem)) => problem.code,
        Err(other) => panic!("{other}"),
        Ok(printed) => panic!("answered: {}", printed.out),
    }
}
