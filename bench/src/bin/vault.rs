//! One replica of the vault for pods that are nothing but tokens.
//!
//! It is what the operator serves to brokers, on a database of its own. Only the API
//! server's review of each pod is played: it takes 500 seconds for ten thousand of them,
//! and what it takes is known.

use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bursar_bench::scale::{
    NAMESPACE, Ready, SERVER_NAME, SERVICE_ACCOUNT, TOKEN, USER, VAULT_CONNECTIONS,
};
use bursar_crds::names::VAULT_AUDIENCE;
use bursar_seal::{RootKey, RootKeyVersion, RootKeys, Secret, SystemRandom, TokenId};
use bursar_vault::rows::{DeletionPolicy, Role};
use bursar_vault::service::{
    PodReviewer, ReviewError, ReviewedPod, Settings, VaultService, WorkloadIssuer, serve,
};
use bursar_vault::{
    Clock, QUERY_LIMIT, Source, SystemClock, TokenSpec, TokenValue, UserSpec, UserUid, Vault,
    VaultConfig,
};
use bursar_wire::tls;
use clap::Parser;
use futures::future::{BoxFuture, ready};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

const ISSUER: &str = "https://kubernetes.bench";
const KEY_ID: &str = "bench";
/// How long the pods' tokens are good for, in seconds.
const GOOD_FOR: i64 = 3_600;

/// Serves the vault on 127.0.0.1.
#[derive(Parser)]
struct Flags {
    /// A private folder with the file database-url; the rest is written there
    #[arg(long)]
    folder: PathBuf,
    /// For how many pods to make tokens
    #[arg(long)]
    pods: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    let vault = open(&fs::read_to_string(flags.folder.join("database-url"))?).await?;
    let namespace_uid = Uuid::new_v4().to_string();
    fill(&vault, &namespace_uid).await?;

    let pair = KeyPair::generate()?;
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
    jwk.common.key_id = Some(KEY_ID.to_owned());
    let jwks = serde_json::to_string(&JwkSet { keys: vec![jwk] })?;
    let issuer = WorkloadIssuer {
        issuer: ISSUER.to_owned(),
        jwks,
    };
    let (_issuer, issuer) = watch::channel(issuer);
    let settings = Settings {
        reviews_per_second: flags.pods.max(1),
        // None of them has to come back while it is measured.
        review_period: Duration::from_secs(GOOD_FOR.unsigned_abs()),
        ..Settings::default()
    };
    let reviewer = Arc::new(Vouching { namespace_uid });
    let mut metrics = Registry::default();
    let service = VaultService::start(vault, issuer, reviewer, settings, &mut metrics).await?;

    let (ca, certified) = certificates()?;
    let config = tls::server_config(Arc::new(SingleCertAndKey::from(certified)))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let now = SystemClock.now().as_second();
    let tokens = (0..flags.pods).map(|_| token(&key, now));
    let ready = Ready {
        port: listener.local_addr()?.port(),
        ca,
        pod_tokens: tokens.collect::<Result<_, _>>()?,
    };
    write(&flags.folder, &ready)?;
    serve(listener, config, service, std::future::pending()).await;
    Ok(())
}

async fn open(database_url: &str) -> Result<Vault, Box<dyn Error>> {
    let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32])?;
    Ok(Vault::open(VaultConfig {
        database_url: database_url.to_owned(),
        insecure_database: false,
        max_connections: VAULT_CONNECTIONS,
        cluster_id: "bench".to_owned(),
        roots: RootKeys::new([root])?,
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        // Longer than the whole measurement: what is measured is reports.
        lease: Duration::from_secs(900),
        query_limit: QUERY_LIMIT,
    })
    .await?)
}

/// One namespace with one user and one token.
async fn fill(vault: &Vault, namespace_uid: &str) -> Result<(), Box<dyn Error>> {
    let controllers = vault.controllers(vault.take_term().await?);
    let tenant = controllers
        .ensure_tenant(&NAMESPACE.parse()?, &namespace_uid.parse()?)
        .await?;
    let user = UserSpec {
        uid: UserUid::from(Uuid::new_v4()),
        name: USER.parse()?,
        email: None,
        role: Role::Member,
        suspended: false,
        workloads: vec![SERVICE_ACCOUNT.parse()?],
    };
    controllers.apply_user(&tenant, &user).await?;
    let token = TokenSpec {
        id: TokenId::from(Uuid::new_v4()),
        name: TOKEN.parse()?,
        user_uid: user.uid,
        provider: "example".parse()?,
        expiration_time: None,
        consumers: None,
        through_version: None,
        deletion_policy: DeletionPolicy::Retain,
        known_version: None,
    };
    let value = TokenValue::new(Secret::from(b"a-made-up-value".to_vec()))?;
    controllers
        .apply_token(&tenant, &token, Source::SecretKeyRef(&value))
        .await?;
    Ok(())
}

/// A CA of its own and a certificate for the vault.
fn certificates() -> Result<(String, CertifiedKey), Box<dyn Error>> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new([SERVER_NAME.to_owned()])?;
    let certificate = params.signed_by(&key, &authority)?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    Ok((authority.pem(), certified))
}

/// The token of another pod.
fn token(key: &EncodingKey, now: i64) -> jsonwebtoken::errors::Result<String> {
    let uid = Uuid::new_v4().to_string();
    let claims = json!({
        "iss": ISSUER,
        "aud": [VAULT_AUDIENCE],
        "sub": format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"),
        "exp": now + GOOD_FOR,
        "iat": now,
        "nbf": now,
        "jti": Uuid::new_v4().to_string(),
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "node": { "name": "node", "uid": "node-uid" },
            "pod": { "name": format!("pod-{}", &uid[..8]), "uid": uid },
            "serviceaccount": { "name": SERVICE_ACCOUNT, "uid": "account-uid" },
        },
    });
    let header = Header {
        kid: Some(KEY_ID.to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    encode(&header, &claims, key)
}

/// Written whole and then put in its place, so that it is never read half.
fn write(folder: &Path, ready: &Ready) -> Result<(), Box<dyn Error>> {
    let file = folder.join("ready.json.new");
    fs::write(&file, serde_json::to_vec(ready)?)?;
    fs::rename(file, folder.join("ready.json"))?;
    Ok(())
}

/// Says of each pod what its token says, which the vault has verified before it asks.
struct Vouching {
    namespace_uid: String,
}

impl PodReviewer for Vouching {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ReviewedPod, ReviewError>> {
        Box::pin(ready(self.read(token).ok_or(ReviewError::Refused)))
    }
}

impl Vouching {
    fn read(&self, token: &str) -> Option<ReviewedPod> {
        let claims = BASE64_URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1)?)
            .ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let kubernetes = &claims["kubernetes.io"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(ReviewedPod {
            namespace: text(&kubernetes["namespace"])?,
            namespace_uid: self.namespace_uid.clone(),
            pod_name: text(&kubernetes["pod"]["name"])?,
            pod_uid: text(&kubernetes["pod"]["uid"])?,
            service_account_name: text(&kubernetes["serviceaccount"]["name"])?,
            service_account_uid: text(&kubernetes["serviceaccount"]["uid"])?,
        })
    }
}
