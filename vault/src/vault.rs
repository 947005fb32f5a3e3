//! The vault: one Postgres database and the root keys that open it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bursar_seal::{Random, RootKeys, TenantId};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgPool, PgTransaction, SqlSafeStr};

use crate::clock::Clock;
use crate::db_time::{DbTime, db_now};
use crate::error::DatabaseError;
use crate::open::VaultConfig;
use crate::tenant_keys::TenantKeys;

/// An open vault. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Vault(Arc<Parts>);

struct Parts {
    pool: PgPool,
    /// What people read is read on these: it may take long, and nobody else waits for it.
    reading_pool: PgPool,
    roots: RootKeys,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    cluster_id: String,
    lease: Duration,
    query_limit: Duration,
    tenant_keys: Mutex<HashMap<TenantId, Arc<TenantKeys>>>,
    /// Held by whoever writes checkpoints.
    checkpoints: tokio::sync::Mutex<()>,
}

impl Vault {
    pub(crate) fn new(pool: PgPool, reading_pool: PgPool, config: VaultConfig) -> Self {
        Self(Arc::new(Parts {
            pool,
            reading_pool,
            roots: config.roots,
            random: config.random,
            clock: config.clock,
            cluster_id: config.cluster_id,
            lease: config.lease,
            query_limit: config.query_limit,
            tenant_keys: Mutex::default(),
            checkpoints: tokio::sync::Mutex::new(()),
        }))
    }

    /// Connections to the database.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// A transaction, which whoever stops waiting for it does not leave behind: sqlx's own
    /// `begin` then returns a connection whose transaction is open to the pool, where what
    /// others write is neither committed nor of their time.
    pub(crate) async fn begin(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.begin_with("begin").await
    }

    /// The same with another statement.
    pub(crate) async fn begin_with(
        &self,
        statement: &'static str,
    ) -> Result<PgTransaction<'static>, sqlx::Error> {
        begin(self.pool().clone(), statement).await
    }

    /// The same on a connection that is kept for what people read.
    pub(crate) async fn begin_reading(
        &self,
        statement: impl SqlSafeStr + Send + 'static,
    ) -> Result<PgTransaction<'static>, sqlx::Error> {
        begin(self.0.reading_pool.clone(), statement).await
    }

    /// The same for a query, which is given up when it takes too long; before it writes, that
    /// is to be undone.
    pub(crate) async fn begin_query(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.begin_limited("begin").await
    }

    /// The same, with one snapshot for all statements, none of which writes.
    pub(crate) async fn begin_query_snapshot(&self) -> Result<PgTransaction<'static>, sqlx::Error> {
        self.begin_limited("begin isolation level repeatable read read only")
            .await
    }

    async fn begin_limited(&self, begin: &str) -> Result<PgTransaction<'static>, sqlx::Error> {
        let limit = self.query_limit().as_millis();
        let begin = format!("{begin}; set local statement_timeout = {limit}");
        self.begin_reading(AssertSqlSafe(begin)).await
    }

    /// How long a query may take.
    pub(crate) fn query_limit(&self) -> Duration {
        self.0.query_limit
    }

    /// A connection of the caller's own, that no other work can take.
    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.pool().connect_options().connect().await
    }

    pub(crate) fn roots(&self) -> &RootKeys {
        &self.0.roots
    }

    /// Where randomness comes from.
    #[must_use]
    pub fn random(&self) -> &dyn Random {
        &*self.0.random
    }

    /// What time it is.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// What time it is by the database, which decides when tokens and leases end. One round trip.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn database_time(&self) -> Result<DbTime, DatabaseError> {
        let mut connection = self.pool().acquire().await?;
        Ok(db_now(&mut connection).await?)
    }

    /// The cluster whose namespaces are tenants here.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.0.cluster_id
    }

    /// How long a broker may serve without hearing from the vault.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.0.lease
    }

    /// Checkpoints are written one after another: a time is not given to one that
    /// is committed after a later one.
    pub(crate) fn checkpoints(&self) -> &tokio::sync::Mutex<()> {
        &self.0.checkpoints
    }

    /// Keys unwrapped earlier.
    pub(crate) fn cached_keys(&self, tenant: TenantId) -> Option<Arc<TenantKeys>> {
        self.0
            .tenant_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .cloned()
    }

    /// Keeps keys for the next time. Bounded by the tenants there are.
    pub(crate) fn cache_keys(&self, keys: Arc<TenantKeys>) {
        let mut cache = self
            .0
            .tenant_keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        cache.insert(keys.tenant(), keys);
    }

    /// Ends all connections. Calls under way finish first.
    pub async fn close(&self) {
        tokio::join!(self.0.pool.close(), self.0.reading_pool.close());
    }
}

async fn begin(
    pool: PgPool,
    statement: impl SqlSafeStr + Send + 'static,
) -> Result<PgTransaction<'static>, sqlx::Error> {
    let begun = tokio::spawn(async move { pool.begin_with(statement).await });
    // It ends early with the runtime only.
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}
