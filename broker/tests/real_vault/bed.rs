//! A broker in this process, a real vault service and a real Postgres.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bursar_broker::clock::{Clock, SystemClock};
use bursar_broker::{Args, Sidecar};
use bursar_seal::{RootKey, RootKeyVersion, RootKeys, Secret, SystemRandom, TokenId};
use bursar_testbed::Database;
use bursar_vault::rows::{Consumer, DeletionPolicy, Enforcement, Role, Subject, Window};
use bursar_vault::service::{
    self, PodReviewer, ReviewError, ReviewedPod, Settings, VaultService, WorkloadIssuer,
};
use bursar_vault::{
    Controllers, Counter, QUERY_LIMIT, QuotaId, QuotaSpec, Source, Tenant, TokenSpec, TokenValue,
    UserSpec, UserUid, Vault, VaultConfig,
};
use bursar_wire::tls;
use clap::Parser as _;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::broker::Broker;
use crate::support::certificates::Certificates;
use crate::support::issuer::{
    ISSUER, Issuer, NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT, good_claims,
};
use crate::support::until;

/// The API server's word on the one pod there is.
struct Reviewer {
    namespace_uid: String,
}

impl PodReviewer for Reviewer {
    fn review<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<ReviewedPod, ReviewError>> {
        let pod = ReviewedPod {
            namespace: NAMESPACE.to_owned(),
            namespace_uid: self.namespace_uid.clone(),
            pod_name: POD_NAME.to_owned(),
            pod_uid: POD_UID.to_owned(),
            service_account_name: SERVICE_ACCOUNT.to_owned(),
            service_account_uid: "sa-1".to_owned(),
        };
        Box::pin(std::future::ready(Ok(pod)))
    }
}

/// A vault service on a thread of its own, which ends when this is dropped.
pub(crate) struct Replica {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Replica {
    /// Ends it, as a rollout does, and waits until it has.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        let thread = self.thread;
        tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap();
    }
}

pub(crate) struct Bed {
    database: Database,
    sql: PgPool,
    controllers: Controllers,
    tenant: Tenant,
    namespace_uid: String,
    certificates: Certificates,
    issuer: Issuer,
    vault_address: SocketAddr,
    lease: Duration,
    folder: TempDir,
}

impl Bed {
    /// A database with one tenant, and a vault for it.
    pub(crate) async fn start(hint: &str, lease: Duration) -> (Self, Replica) {
        let database = bursar_testbed::shared().database(hint).await.unwrap();
        let vault = open(&database, lease).await;
        let controllers = vault.controllers(vault.take_term().await.unwrap());
        let namespace_uid = Uuid::new_v4().to_string();
        let (namespace, uid) = (NAMESPACE.parse().unwrap(), namespace_uid.parse().unwrap());
        let tenant = controllers.ensure_tenant(&namespace, &uid).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bed = Self {
            sql: PgPool::connect(&database.superuser_url).await.unwrap(),
            database,
            controllers,
            tenant,
            namespace_uid,
            certificates: Certificates::new(),
            issuer: Issuer::new(),
            vault_address: listener.local_addr().unwrap(),
            lease,
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(bed.file("ca.crt"), &bed.certificates.ca_pem).unwrap();
        let mut claims = good_claims(SystemClock.wall().seconds());
        claims["aud"] = json!(["bursar-vault"]);
        std::fs::write(bed.file("token"), bed.issuer.token(&claims)).unwrap();
        let replica = bed.serve(listener);
        (bed, replica)
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Another vault process, at the address of the one before.
    pub(crate) fn replica(&self) -> Replica {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.vault_address).unwrap();
        self.serve(socket.listen(1024).unwrap())
    }

    fn serve(&self, listener: TcpListener) -> Replica {
        let listener = listener.into_std().unwrap();
        let (database, lease) = (self.database.clone(), self.lease);
        let issuer = WorkloadIssuer {
            issuer: ISSUER.to_owned(),
            jwks: self.issuer.jwks(),
        };
        let reviewer = Arc::new(Reviewer {
            namespace_uid: self.namespace_uid.clone(),
        });
        let config = tls::server_config(self.certificates.resolver()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let vault = open(&database, lease).await;
                let issuer = watch::Sender::new(issuer);
                let keys = issuer.subscribe();
                let mut metrics = Registry::default();
                let service =
                    VaultService::start(vault, keys, reviewer, Settings::default(), &mut metrics);
                let service = service.await.unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                service::serve(listener, config, service, async { drop(stopped.await) }).await;
            });
        });
        Replica { stop, thread }
    }

    pub(crate) async fn broker(&self) -> Broker {
        self.broker_with(Box::new(SystemClock)).await
    }

    /// A broker that takes another time for the present.
    pub(crate) async fn broker_with(&self, clock: Box<dyn Clock>) -> Broker {
        let vault = format!("https://{}", self.vault_address);
        let (ca_file, token_file) = (self.file("ca.crt"), self.file("token"));
        let args = Args::parse_from([
            "bursar-broker",
            "--vault",
            &vault,
            "--ca-file",
            &ca_file,
            "--token-file",
            &token_file,
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
        ]);
        let sidecar = Sidecar::bind(&args, clock, Box::new(SystemRandom));
        let sidecar = sidecar.await.unwrap();
        let jwt = good_claims(SystemClock.wall().seconds());
        Broker::start(sidecar, self.issuer.token(&jwt)).await
    }

    /// A user that the pod's service account may act as.
    pub(crate) async fn user(&self, name: &str) -> UserSpec {
        let spec = UserSpec {
            uid: UserUid::from(Uuid::new_v4()),
            name: name.parse().unwrap(),
            email: None,
            role: Role::Member,
            suspended: false,
            workloads: vec![SERVICE_ACCOUNT.parse().unwrap()],
        };
        self.apply_user(&spec).await;
        spec
    }

    pub(crate) async fn apply_user(&self, spec: &UserSpec) {
        self.controllers
            .apply_user(&self.tenant, spec)
            .await
            .unwrap();
    }

    pub(crate) async fn token(&self, user: &UserSpec, name: &str, value: &str) -> TokenSpec {
        let spec = TokenSpec {
            id: TokenId::from(Uuid::new_v4()),
            name: name.parse().unwrap(),
            user_uid: user.uid,
            provider: "github".parse().unwrap(),
            expiration_time: None,
            consumers: None,
            through_version: None,
            deletion_policy: DeletionPolicy::Retain,
            known_version: None,
        };
        self.store(&spec, value).await;
        spec
    }

    pub(crate) async fn store(&self, spec: &TokenSpec, value: &str) {
        let value = TokenValue::new(Secret::from(value.as_bytes().to_vec())).unwrap();
        let source = Source::SecretKeyRef(&value);
        self.controllers
            .apply_token(&self.tenant, spec, source)
            .await
            .unwrap();
    }

    /// Applies a spec alone.
    pub(crate) async fn apply_token(&self, spec: &TokenSpec) {
        let source = Source::Unavailable;
        self.controllers
            .apply_token(&self.tenant, spec, source)
            .await
            .unwrap();
    }

    /// A quota on the accesses to all tokens of a user, for all time.
    pub(crate) async fn quota(&self, user: &UserSpec, limit: i64) -> QuotaSpec {
        let spec = QuotaSpec {
            id: QuotaId::from(Uuid::new_v4()),
            name: "limit".parse().unwrap(),
            subject: Subject::User(user.uid),
            counter: Counter::accesses(),
            limit,
            window: Window::Lifetime,
            enforcement: Enforcement::Enforce,
        };
        self.apply_quota(&spec).await;
        spec
    }

    pub(crate) async fn apply_quota(&self, spec: &QuotaSpec) {
        let existing = [spec.id].into();
        let applied = self.controllers.apply_quota(&self.tenant, spec, &existing);
        applied.await.unwrap();
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query)
            .fetch_one(&self.sql)
            .await
            .unwrap()
    }

    pub(crate) async fn until_count(&self, query: &str, wanted: i64) {
        until(query, async || self.count(query).await == wanted).await;
    }

    /// Accesses on record, as far as workloads told of them.
    pub(crate) async fn served(&self) -> i64 {
        self.count(
            "select coalesce(sum(count), 0)::bigint from access_record where outcome = 'Served'",
        )
        .await
    }

    /// Nothing is open, nothing has lapsed.
    pub(crate) async fn assert_all_accounted_for(&self) {
        assert_eq!(
            self.count("select count(*) from allowance where state <> 'Closed'")
                .await,
            0
        );
        let unaccounted =
            "select count(*) from access_record where outcome in ('Unaccounted', 'Accounted')";
        assert_eq!(self.count(unaccounted).await, 0);
        assert_eq!(
            self.count("select count(*) from integrity_failure").await,
            0
        );
    }

    /// Ends every connection of the vault and lets none in.
    pub(crate) async fn shut_out(&self) {
        let name = &self.database.runtime_role;
        for statement in [
            format!("alter role \"{name}\" connection limit 0"),
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'"
            ),
        ] {
            sqlx::query(AssertSqlSafe(statement))
                .execute(&self.sql)
                .await
                .unwrap();
        }
    }

    /// Lets the vault in again.
    pub(crate) async fn let_in(&self) {
        let statement = format!(
            "alter role \"{}\" connection limit -1",
            self.database.runtime_role
        );
        sqlx::query(AssertSqlSafe(statement))
            .execute(&self.sql)
            .await
            .unwrap();
    }
}

/// A consumer entry for the pod's service account, or another.
pub(crate) fn consumer(service_account: &str, purposes: Option<&[&str]>) -> Consumer {
    let purposes = purposes.map(|purposes| {
        purposes
            .iter()
            .map(|purpose| purpose.parse().unwrap())
            .collect()
    });
    Consumer::new(service_account.parse().unwrap(), purposes)
}

async fn open(database: &Database, lease: Duration) -> Vault {
    let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
    Vault::open(VaultConfig {
        database_url: database.runtime_url.clone(),
        insecure_database: false,
        max_connections: 4,
        cluster_id: "cluster-1".to_owned(),
        roots: RootKeys::new([root]).unwrap(),
        random: Arc::new(SystemRandom),
        clock: Arc::new(bursar_vault::SystemClock),
        lease,
        query_limit: QUERY_LIMIT,
    })
    .await
    .unwrap()
}
