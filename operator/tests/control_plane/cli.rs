//! `kubectl bursar`, and requests to the service behind it that no tool of ours would make.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
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
use tokio_rustls::client::TlsStream;

use crate::operator::{LIMIT, PAUSE, VAULT_NAME};
use crate::team::Team;

/// What a command printed, and whether it said that all is well.
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) success: bool,
}

/// What is written to it nobody reads any more.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        self.bursar_at(self.operator.people_port(), args).await
    }

    /// The same at another port of this machine.
    pub(crate) async fn bursar_at(&self, port: u16, args: &[&str]) -> Result<Printed, CliError> {
        let mut out = Vec::new();
        let success = self.bursar_to(port, args, &mut out).await?;
        let out = String::from_utf8(out).unwrap();
        Ok(Printed { out, success })
    }

    /// The same for a reader that has gone.
    pub(crate) async fn bursar_unread(&self, args: &[&str]) -> Result<bool, CliError> {
        let port = self.operator.people_port();
        self.bursar_to(port, args, &mut Gone).await
    }

    async fn bursar_to(
        &self,
        port: u16,
        args: &[&str],
        out: &mut dyn Write,
    ) -> Result<bool, CliError> {
        let url = format!("https://127.0.0.1:{port}");
        let ca_file = self.ca_file().await;
        let direct = ["--vault", &url, "--ca-file", ca_file.to_str().unwrap()];
        let args = [&direct, args].concat();
        self.bursar_as_of(self.testbed.kubeconfig(), &args, out)
            .await
    }

    /// Runs it through the API server, with what a kubeconfig allows.
    pub(crate) async fn bursar_by(
        &self,
        kubeconfig: &Path,
        args: &[&str],
    ) -> Result<Printed, CliError> {
        let mut out = Vec::new();
        let success = self.bursar_as_of(kubeconfig, args, &mut out).await?;
        let out = String::from_utf8(out).unwrap();
        Ok(Printed { out, success })
    }

    async fn bursar_as_of(
        &self,
        kubeconfig: &Path,
        args: &[&str],
        out: &mut dyn Write,
    ) -> Result<bool, CliError> {
        let kubeconfig = kubeconfig.to_str().unwrap();
        let global = [
            "kubectl-bursar",
            "--kubeconfig",
            kubeconfig,
            "-n",
            &self.namespace,
        ];
        let args = Args::try_parse_from(global.iter().chain(args)).unwrap();
        let now = || jiff::Timestamp::from_second(4_000_000_000).unwrap();
        let code = run(args, &now, out, Some(120)).await?;
        Ok(format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS))
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
        let vault = ("127.0.0.1", self.operator.people_port());
        let tcp = TcpStream::connect(vault).await.unwrap();
        self.ask_over(tcp, line, headers, body).await.unwrap()
    }

    /// The same over a connection; `None` when it is closed without an answer.
    pub(crate) async fn ask_over(
        &self,
        tcp: TcpStream,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<(u16, Value)> {
        ask_through(self.greet(tcp).await?, line, headers, body).await
    }

    /// Makes a connection one of TLS; `None` when it is closed meanwhile.
    pub(crate) async fn greet(&self, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        let tls = bursar_wire::tls::people_client_config(self.ca().await.as_bytes()).unwrap();
        let name = ServerName::try_from(VAULT_NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp);
        stream.await.ok()
    }
}

/// Sends a request, as it stands: status and body; `None` when there is no answer.
pub(crate) async fn ask_through(
    mut stream: TlsStream<TcpStream>,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<(u16, Value)> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    // A server that closes without a TLS goodbye has still answered.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().unwrap();
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// The code of the problem that a command ended with.
pub(crate) fn code(result: Result<Printed, CliError>) -> String {
    match result {
        Err(CliError::Refused(problem)) => problem.code,
        Err(other) => panic!("{other}"),
        Ok(printed) => panic!("answered: {}", printed.out),
    }
}
