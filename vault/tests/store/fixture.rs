//! A vault on a database of its own, and the few questions that tests ask it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bursar_seal::{RootKey, RootKeyVersion, RootKeys, SystemRandom, TokenVersion};
use bursar_testbed::Database;
use bursar_vault::rows::{AuthenticatedRow, VersionRow};
use bursar_vault::{
    Change, Controllers, Namespace, NamespaceUid, OpenError, QUERY_LIMIT, Source, SystemClock,
    Tenant, TokenSpec, TokenState, UserSpec, Vault, VaultConfig, VaultError,
};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, Transaction};
use uuid::Uuid;

pub(crate) use crate::specs::{token, user, value_of};

pub(crate) struct Fixture {
    pub(crate) database: Database,
    pub(crate) vault: Vault,
    pub(crate) controllers: Controllers,
    /// The superuser, who can do what an attacker on the database can; no foreign
    /// keys are in the way.
    pub(crate) sql: PgPool,
}

impl Fixture {
    pub(crate) async fn new(hint: &str) -> Self {
        let database = bursar_testbed::shared().database(hint).await.unwrap();
        let vault = Vault::open(config(&database.runtime_url)).await.unwrap();
        let term = vault.take_term().await.unwrap();
        let superuser = PgConnectOptions::from_str(&database.superuser_url)
            .unwrap()
            .options([("session_replication_role", "replica")]);
        let sql = PgPool::connect_with(superuser).await.unwrap();
        Self {
            database,
            controllers: vault.controllers(term),
            vault,
            sql,
        }
    }

    /// The same with a namespace, the user `ana` in it, and the spec of a token of hers,
    /// `github`, that nobody has applied yet.
    pub(crate) async fn with_token(hint: &str) -> (Self, Tenant, TokenSpec) {
        let fixture = Self::new(hint).await;
        let tenant = fixture.tenant("team").await;
        let ana = fixture.user(&tenant, "ana").await;
        let spec = token("github", &ana);
        (fixture, tenant, spec)
    }

    /// Another process on the same database, with nothing in its memory.
    pub(crate) async fn restarted(&self) -> Vault {
        Vault::open(config(&self.database.runtime_url))
            .await
            .unwrap()
    }

    pub(crate) async fn tenant(&self, namespace: &str) -> Tenant {
        let uid = Uuid::new_v4().to_string();
        self.tenant_with_uid(namespace, &uid).await
    }

    pub(crate) async fn tenant_with_uid(&self, namespace: &str, uid: &str) -> Tenant {
        self.controllers
            .ensure_tenant(&ns(namespace), &ns_uid(uid))
            .await
            .unwrap()
    }

    /// A user that the service account `app` may act as.
    pub(crate) async fn user(&self, tenant: &Tenant, name: &str) -> UserSpec {
        let spec = user(name);
        self.controllers.apply_user(tenant, &spec).await.unwrap();
        spec
    }

    pub(crate) async fn apply(
        &self,
        tenant: &Tenant,
        spec: &TokenSpec,
        value: &str,
    ) -> Result<TokenState, VaultError> {
        let value = value_of(value);
        self.controllers
            .apply_token(tenant, spec, Source::SecretKeyRef(&value))
            .await
    }

    /// Runs SQL as the superuser.
    pub(crate) async fn tamper(&self, statement: &str) -> u64 {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&self.sql)
            .await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"))
            .rows_affected()
    }

    /// The same, for the rows that the statement gives.
    pub(crate) async fn tamper_returning<R>(&self, statement: &str) -> Vec<R>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let rows = sqlx::query_as(AssertSqlSafe(statement.to_owned()))
            .fetch_all(&self.sql)
            .await;
        rows.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Sets back by seven days when the keys of deleted versions are destroyed, as
    /// if they had been deleted then.
    pub(crate) async fn seven_days_later(&self, tenant: &Tenant) {
        let rows: Vec<VersionRow> = self
            .tamper_returning(&format!(
                "update token_version set shred_time = shred_time - interval '7 days'
                 where shred_time is not null and tenant_id = '{}' returning *",
                tenant.id()
            ))
            .await;
        for row in rows {
            let mac = tenant.keys().newest().row_mac().mac(&row.content());
            sqlx::query("update token_version set mac = $1 where token_id = $2 and version = $3")
                .bind(&mac[..])
                .bind(row.token_id)
                .bind(row.version)
                .execute(&self.sql)
                .await
                .unwrap();
        }
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&self.sql)
            .await
            .unwrap()
    }

    /// Stops every write of a tenant where it takes the tenant's row, until this is
    /// committed.
    pub(crate) async fn hold_writes(&self, tenant: &Tenant) -> Transaction<'static, Postgres> {
        let mut gate = self.sql.begin().await.unwrap();
        sqlx::query("select from tenant where tenant_id = $1 for update")
            .bind(tenant.id().as_uuid())
            .fetch_one(&mut *gate)
            .await
            .unwrap();
        gate
    }

    /// Waits until so many connections wait for a lock.
    pub(crate) async fn until_waiting(&self, wanted: i64) {
        let waiting = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let reached = async {
            while self.count(waiting).await != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .unwrap_or_else(|_| panic!("{wanted} connections never waited for a lock at once"));
    }

    /// All rows of all tables as text, with the transactions that wrote or locked
    /// them: equal before and after means that nothing was written in between.
    pub(crate) async fn everything(&self) -> String {
        let mut all = String::new();
        for table in self.tables().await {
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
                "select concat_ws(' ', xmin, xmax, t::text) from {table} as t order by ctid"
            )))
            .fetch_all(&self.sql)
            .await
            .unwrap();
            all.push_str(&format!("{table}\n{}\n", rows.join("\n")));
        }
        all
    }

    pub(crate) async fn tables(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select relname::text from pg_class
             where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
               and not relispartition and relname <> '_sqlx_migrations'
             order by 1",
        )
        .fetch_all(&self.sql)
        .await
        .unwrap()
    }

    /// Where the change log of a tenant stands.
    pub(crate) async fn head(&self, tenant: &Tenant) -> i64 {
        let heads = bursar_vault::heads(&self.sql).await.unwrap();
        heads
            .into_iter()
            .find(|(shard, _)| *shard == tenant.shard())
            .unwrap()
            .1
    }

    /// The changes of a tenant behind a number.
    pub(crate) async fn changes(&self, tenant: &Tenant, after: i64) -> Vec<Change> {
        let read = bursar_vault::read_after(&self.sql, tenant.shard(), after, 1000)
            .await
            .unwrap();
        let of_tenant = read
            .into_iter()
            .filter(|change| change.tenant == tenant.id());
        of_tenant.map(|change| change.change.unwrap()).collect()
    }
}

pub(crate) fn config(url: &str) -> VaultConfig {
    VaultConfig {
        database_url: url.to_owned(),
        insecure_database: false,
        max_connections: 5,
        cluster_id: "cluster-1".to_owned(),
        roots: roots([(1, 1)]),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        lease: Duration::from_secs(60),
        query_limit: QUERY_LIMIT,
    }
}

/// Root keys of (version, the byte it is made of).
pub(crate) fn roots<const N: usize>(keys: [(u32, u8); N]) -> RootKeys {
    RootKeys::new(keys.map(|(version, byte)| {
        RootKey::from_bytes(RootKeyVersion::try_from(version).unwrap(), &[byte; 32]).unwrap()
    }))
    .unwrap()
}

pub(crate) fn ns(name: &str) -> Namespace {
    name.parse().unwrap()
}

pub(crate) fn ns_uid(uid: &str) -> NamespaceUid {
    uid.parse().unwrap()
}

pub(crate) fn version(number: u32) -> TokenVersion {
    number.try_into().unwrap()
}

/// Why a vault did not open. (A vault has no `Debug`, as it holds keys.)
pub(crate) async fn refusal(config: VaultConfig) -> OpenError {
    Vault::open(config).await.err().expect("the vault opened")
}
