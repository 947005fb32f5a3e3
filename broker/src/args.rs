//! The command line; every flag can be an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Serves tokens to the workloads of its pod, on localhost.
#[derive(Clone, Debug, Parser)]
#[command(name = "bursar-broker", version)]
pub struct Args {
    /// The vault's address, https://HOST:PORT
    #[arg(long, env = "BURSAR_VAULT", value_name = "URL")]
    pub vault: String,

    /// The name that the vault's certificate must hold
    #[arg(
        long,
        env = "BURSAR_VAULT_NAME",
        value_name = "NAME",
        default_value = "bursar-vault.bursar-system.svc"
    )]
    pub vault_name: String,

    /// Bursar's CA certificates, PEM; read again at every connect
    #[arg(long, env = "BURSAR_CA_FILE", value_name = "FILE")]
    pub ca_file: PathBuf,

    /// The pod's service account token for the audience bursar-vault; read again at every attach
    #[arg(long, env = "BURSAR_VAULT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,

    /// Where workloads are served: loopback addresses, separated by commas
    #[arg(
        long,
        env = "BURSAR_BROKER_LISTEN",
        value_name = "ADDR:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:9440,[::1]:9440",
        value_parser = loopback
    )]
    pub listen: Vec<SocketAddr>,

    /// Where /healthz, /readyz and /metrics are served, which name no user or token: on all
    /// addresses of the pod, for the kubelet and Prometheus
    #[arg(
        long,
        env = "BURSAR_BROKER_METRICS_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "[::]:9441"
    )]
    pub metrics_listen: SocketAddr,

    /// What is logged, e.g. info or bursar_broker=debug
    #[arg(
        long,
        env = "BURSAR_LOG_LEVEL",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_level: String,

    /// How it is logged
    #[arg(long, env = "BURSAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Tokens leave this process in plain HTTP, so they may not leave the pod.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected ADDRESS:PORT, e.g. 127.0.0.1:9440 or [::1]:9440")?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the broker serves secrets and listens on loopback addresses only".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [&str; 7] = [
        "bursar-broker",
        "--vault",
        "https://vault:8443",
        "--ca-file",
        "ca.crt",
        "--token-file",
        "token",
    ];

    fn parse(more: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(REQUIRED.iter().chain(more))
    }

    #[test]
    fn workloads_are_served_on_loopback_and_the_kubelet_on_all_addresses_unless_told() {
        let args = parse(&[]).unwrap();
        assert_eq!(
            args.listen,
            [
                "127.0.0.1:9440".parse().unwrap(),
                "[::1]:9440".parse().unwrap()
            ]
        );
        assert!(args.listen.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(args.metrics_listen, "[::]:9441".parse().unwrap());
        assert_eq!(args.vault_name, "bursar-vault.bursar-system.svc");
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        for reachable in [
            "0.0.0.0:9440",
            "10.0.0.1:9440",
            "[::]:9440",
            "127.0.0.1:1,1.1.1.1:2",
        ] {
            let error = parse(&["--listen", reachable]).unwrap_err().to_string();
            assert!(error.contains("loopback"), "{reachable}: {error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "localhost:9440", "127.0.0.1", "9440"] {
            assert!(parse(&["--listen", bad]).is_err(), "{bad:?}");
        }
    }
}
