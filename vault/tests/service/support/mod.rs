//! A bed of one database, one cluster and as many replicas as a test wants.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod events;
pub(crate) mod gates;
pub(crate) mod proxy;
pub(crate) mod replica;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bursar_seal::{RootKey, RootKeyVersion, RootKeys, SystemRandom};
use bursar_testbed::Database;
use bursar_vault::rows::{Consumer, Enforcement, Subject, Window};
use bursar_vault::service::Settings;
use bursar_vault::{
    Clock, Controllers, Counter, OpenError, QUERY_LIMIT, QuotaId, QuotaSpec, QuotaState, Source,
    SystemClock, Tenant, TokenSpec, TokenState, UserSpec, Vault, VaultConfig,
};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use broker::Broker;
use cluster::{Cluster, Pod};
use proxy::Proxy;
use replica::{Authority, Replica};

pub(crate) use crate::specs::{token, user, value_of};

/// Long enough for anything that happens at all.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Connections of one replica to the database.
pub(crate) const CONNECTIONS: u32 = 8;

/// All units that are charged to any window.
pub(crate) const CHARGED: &str = "select coalesce(sum(charged), 0)::bigint from quota_window";

/// How often Postgres ended a deadlock.
pub(crate) const DEADLOCKS: &str = "select coalesce(sum(deadlocks), 0)::bigint
    from pg_stat_database where datname = current_database()";

pub(crate) struct Bed {
    pub(crate) database: Database,
    pub(crate) controllers: Controllers,
    /// The superuser, who can do what an attacker on the database can.
    pub(crate) sql: PgPool,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) authority: Authority,
    lease: Duration,
}

/// A namespace and its tenant.
pub(crate) struct Team {
    pub(crate) namespace: String,
    pub(crate) namespace_uid: String,
    pub(crate) tenant: Tenant,
}

impl Bed {
    pub(crate) async fn new(hint: &str) -> Self {
        Self::with_lease(hint, Duration::from_secs(60)).await
    }

    pub(crate) async fn with_lease(hint: &str, lease: Duration) -> Self {
        let database = bursar_testbed::shared().database(hint).await.unwrap();
        let vault = open(&database.runtime_url, lease).await;
        Self {
            controllers: next_leader(&vault).await,
            sql: PgPool::connect(&database.superuser_url).await.unwrap(),
            cluster: Arc::new(Cluster::new()),
            authority: Authority::new(),
            database,
            lease,
        }
    }

    /// A vault without a service.
    pub(crate) async fn vault(&self) -> Vault {
        open(&self.database.runtime_url, self.lease).await
    }

    /// One that gives a query up sooner than in a cluster.
    pub(crate) async fn vault_with_query_limit(&self, query_limit: Duration) -> Vault {
        let config = VaultConfig {
            query_limit,
            ..config(
                &self.database.runtime_url,
                self.lease,
                Arc::new(SystemClock),
            )
        };
        Vault::open(config).await.unwrap()
    }

    /// The next leader's controllers, whose connections `shut_out` does not end.
    pub(crate) async fn controllers_elsewhere(&self) -> Controllers {
        next_leader(&open(&self.database.superuser_url, self.lease).await).await
    }

    /// The next leader's controllers, on a machine whose clock is so far from the true time.
    pub(crate) async fn controllers_off_by(&self, off: SignedDuration) -> Controllers {
        let vault = try_open_at(&self.database.runtime_url, self.lease, Arc::new(Off(off)));
        next_leader(&vault.await.unwrap()).await
    }

    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with(Settings::default()).await
    }

    /// A replica, with connections of its own.
    pub(crate) async fn replica_with(&self, settings: Settings) -> Replica {
        let vault = open(&self.database.runtime_url, self.lease).await;
        Replica::start(vault, &self.cluster, &self.authority, settings).await
    }

    /// A replica that reaches the database by way of a proxy.
    pub(crate) async fn replica_behind(&self, proxy: &Proxy) -> Replica {
        let vault = open(&proxy.url(&self.database.runtime_url), self.lease).await;
        Replica::start(vault, &self.cluster, &self.authority, Settings::default()).await
    }

    /// The same while connections to the database are being killed.
    pub(crate) async fn replica_retried(&self) -> Replica {
        loop {
            if let Ok(vault) = try_open(&self.database.runtime_url, self.lease).await {
                let settings = Settings::default();
                let started = Replica::try_start(vault, &self.cluster, &self.authority, settings);
                if let Ok(replica) = started.await {
                    return replica;
                }
            }
        }
    }

    pub(crate) async fn team(&self, namespace: &str) -> Team {
        let uid = Uuid::new_v4().to_string();
        let tenant = self
            .controllers
            .ensure_tenant(&namespace.parse().unwrap(), &uid.parse().unwrap())
            .await
            .unwrap();
        Team {
            namespace: namespace.to_owned(),
            namespace_uid: uid,
            tenant,
        }
    }

    /// A namespace with the user `ana`, and her token `github`.
    pub(crate) async fn team_with_token(&self) -> (Team, UserSpec, TokenSpec) {
        let team = self.team("team").await;
        let ana = self.user(&team, "ana").await;
        let github = self.token(&team, &ana, "github").await;
        (team, ana, github)
    }

    /// A user that the service account `app` may act as.
    pub(crate) async fn user(&self, team: &Team, name: &str) -> UserSpec {
        let spec = user(name);
        self.apply_user(team, &spec).await;
        spec
    }

    pub(crate) async fn apply_user(&self, team: &Team, spec: &UserSpec) {
        self.controllers
            .apply_user(&team.tenant, spec)
            .await
            .unwrap();
    }

    /// A token of that user with the value `VALUE of NAME`.
    pub(crate) async fn token(&self, team: &Team, user: &UserSpec, name: &str) -> TokenSpec {
        let spec = token(name, user);
        self.store(team, &spec, &format!("VALUE of {name}")).await;
        spec
    }

    pub(crate) async fn store(&self, team: &Team, spec: &TokenSpec, value: &str) -> TokenState {
        let value = value_of(value);
        let source = Source::SecretKeyRef(&value);
        self.controllers
            .apply_token(&team.tenant, spec, source)
            .await
            .unwrap()
    }

    /// Applies a spec without its Secret being readable.
    pub(crate) async fn apply(&self, team: &Team, spec: &TokenSpec) -> TokenState {
        let applied = self
            .controllers
            .apply_token(&team.tenant, spec, Source::Unavailable)
            .await;
        applied.unwrap()
    }

    /// Applies a quota in a namespace that has no other.
    pub(crate) async fn apply_quota(&self, team: &Team, spec: &QuotaSpec) -> QuotaState {
        self.apply_quota_of(team, spec, &[spec.id]).await
    }

    /// Applies one of the namespace's quotas.
    pub(crate) async fn apply_quota_of(
        &self,
        team: &Team,
        spec: &QuotaSpec,
        existing: &[QuotaId],
    ) -> QuotaState {
        let existing = existing.iter().copied().collect();
        self.controllers
            .apply_quota(&team.tenant, spec, &existing)
            .await
            .unwrap()
    }

    /// Deletes one of the namespace's quotas; `existing` are the others.
    pub(crate) async fn delete_quota(&self, team: &Team, spec: &QuotaSpec, existing: &[QuotaId]) {
        let existing = existing.iter().copied().collect();
        self.controllers
            .delete_quota(&team.tenant, spec.id, &existing)
            .await
            .unwrap();
    }

    /// A broker that has attached for a new pod of the service account.
    pub(crate) async fn broker(
        &self,
        replica: &Replica,
        team: &Team,
        service_account: &str,
    ) -> Broker {
        let pod = Pod::new(team, service_account);
        let token = self.cluster.token(&pod);
        let mut broker = Broker::connect(replica, &self.authority).await;
        broker.attach(&token).await.unwrap();
        broker
    }

    /// Runs SQL as the superuser, without foreign keys in the way.
    pub(crate) async fn tamper(&self, statement: &str) -> u64 {
        let mut transaction = self.sql.begin().await.unwrap();
        sqlx::raw_sql("set local session_replication_role = replica")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&mut *transaction)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        transaction.commit().await.unwrap();
        done.rows_affected()
    }

    /// Locks rows, `TABLE` or `TABLE where ...`, until the transaction ends.
    pub(crate) async fn lock(&self, rows: &str) -> Transaction<'static, Postgres> {
        let mut transaction = self.sql.begin().await.unwrap();
        let lock = sqlx::query(AssertSqlSafe(format!("select from {rows} for update")));
        let locked = lock.execute(&mut *transaction).await.unwrap();
        assert!(locked.rows_affected() > 0, "{rows}: none");
        transaction
    }

    /// Waits until so many connections wait for a lock.
    pub(crate) async fn until_waiting(&self, connections: i64) {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        self.until_count(waiting, connections).await;
    }

    /// A column of text.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_all(&self.sql)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Numbers by name.
    pub(crate) async fn counts(&self, query: &str) -> HashMap<String, i64> {
        let rows: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(query.to_owned()))
            .fetch_all(&self.sql)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        rows.into_iter().collect()
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&self.sql)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The database's day, in UTC.
    pub(crate) async fn today(&self) -> Date {
        let today = "select to_char(now() at time zone 'UTC', 'YYYY-MM-DD')";
        self.texts(today).await[0].parse().unwrap()
    }

    /// Somebody with the vault's own role.
    pub(crate) async fn intruder(&self) -> PgConnection {
        let url = &self.database.runtime_url;
        PgConnection::connect(url).await.unwrap()
    }

    /// Ends every connection of the replicas and lets none in; how many there were.
    pub(crate) async fn shut_out(&self) -> u64 {
        let name = &self.database.runtime_role;
        self.tamper(&format!("alter role \"{name}\" connection limit 0"))
            .await;
        self.tamper(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'"
        ))
        .await
    }

    /// Lets the replicas in again.
    pub(crate) async fn let_in(&self) {
        let name = &self.database.runtime_role;
        self.tamper(&format!("alter role \"{name}\" connection limit -1"))
            .await;
    }

    /// Waits until a query counts to `wanted`.
    pub(crate) async fn until_count(&self, query: &str, wanted: i64) {
        let reached = async {
            while self.count(query).await != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, reached).await.is_err() {
            panic!("{query}: {} and not {wanted}", self.count(query).await);
        }
    }
}

async fn next_leader(vault: &Vault) -> Controllers {
    vault.controllers(vault.take_term().await.unwrap())
}

/// A machine whose clock is so far from the true time.
struct Off(SignedDuration);

impl Clock for Off {
    #[expect(clippy::disallowed_methods, reason = "the true time is the machine's")]
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.0
    }
}

async fn open(url: &str, lease: Duration) -> Vault {
    try_open(url, lease).await.unwrap()
}

async fn try_open(url: &str, lease: Duration) -> Result<Vault, OpenError> {
    try_open_at(url, lease, Arc::new(SystemClock)).await
}

/// On a machine with that clock.
async fn try_open_at(
    url: &str,
    lease: Duration,
    clock: Arc<dyn Clock>,
) -> Result<Vault, OpenError> {
    Vault::open(config(url, lease, clock)).await
}

fn config(url: &str, lease: Duration, clock: Arc<dyn Clock>) -> VaultConfig {
    let root = RootKey::from_bytes(RootKeyVersion::FIRST, &[7; 32]).unwrap();
    VaultConfig {
        database_url: url.to_owned(),
        insecure_database: false,
        max_connections: CONNECTIONS,
        cluster_id: "cluster-1".to_owned(),
        roots: RootKeys::new([root]).unwrap(),
        random: Arc::new(SystemRandom),
        clock,
        lease,
        query_limit: QUERY_LIMIT,
    }
}

/// A quota for all time on accesses, enforced.
pub(crate) fn quota(name: &str, subject: Subject, limit: i64) -> QuotaSpec {
    QuotaSpec {
        id: QuotaId::from(Uuid::new_v4()),
        name: name.parse().unwrap(),
        subject,
        counter: Counter::accesses(),
        limit,
        window: Window::Lifetime,
        enforcement: Enforcement::Enforce,
    }
}

pub(crate) fn consumer(service_account: &str, purposes: Option<&[&str]>) -> Consumer {
    let purposes = purposes.map(|purposes| {
        let parsed = purposes.iter().map(|purpose| purpose.parse().unwrap());
        parsed.collect()
    });
    Consumer::new(service_account.parse().unwrap(), purposes)
}
