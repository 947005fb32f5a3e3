//! What is in the vault's tables, read past the vault.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};

use crate::operator::operator;

/// The rows of one namespace.
pub(crate) struct Rows {
    pool: PgPool,
    namespace: String,
}

impl Rows {
    /// Those of `namespace`, whoever they belong to in it.
    pub(crate) async fn of(namespace: &str) -> Self {
        let url = &operator().await.database.superuser_url;
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect(url)
            .await
            .unwrap();
        Self {
            pool,
            namespace: namespace.to_owned(),
        }
    }

    /// How many tenants the namespace has.
    pub(crate) async fn tenants(&self) -> i64 {
        self.count("select count(*) from tenant where namespace = $1")
            .await
    }

    /// How many of its users are not deleted.
    pub(crate) async fn live_users(&self) -> i64 {
        self.count(
            "select count(*) from token_user join tenant using (tenant_id)
             where namespace = $1 and deleted_time is null",
        )
        .await
    }

    /// How many of its tokens are not deleted.
    pub(crate) async fn live_tokens(&self) -> i64 {
        self.count(
            "select count(*) from token join tenant using (tenant_id)
             where namespace = $1 and deleted_time is null",
        )
        .await
    }

    /// The states of all its versions, by number.
    pub(crate) async fn versions(&self) -> Vec<(i32, String)> {
        let rows = sqlx::query(
            "select version, state from token_version join tenant using (tenant_id)
             where namespace = $1 order by token_id, version",
        )
        .bind(&self.namespace)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Whether any version is kept for a restore.
    pub(crate) async fn has_shred_time(&self) -> bool {
        self.count(
            "select count(*) from token_version join tenant using (tenant_id)
             where namespace = $1 and shred_time is not null and wrapped_key is not null",
        )
        .await
            > 0
    }

    /// How many of its allowances brokers still hold.
    pub(crate) async fn open_allowances(&self) -> i64 {
        self.count(
            "select count(*) from allowance join tenant using (tenant_id)
             where namespace = $1 and state = 'Open'",
        )
        .await
    }

    /// How many of its accesses are on record as brokers told of them.
    pub(crate) async fn served(&self) -> i64 {
        self.count(
            "select coalesce(sum(count), 0)::bigint from access_record join tenant using (tenant_id)
             where namespace = $1 and outcome = 'Served'",
        )
        .await
    }

    /// Moves the head of a chain of its, as a record does.
    pub(crate) async fn move_chain(&self) {
        sqlx::query(
            "insert into audit_chain as c (tenant_id, chain_id, record_no, recorded_time, mac)
             select tenant_id, tenant_id, 1, now(), sha256('1') from tenant where namespace = $1
             on conflict (tenant_id, chain_id) do update
             set record_no = c.record_no + 1, mac = sha256(c.mac)",
        )
        .bind(&self.namespace)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// The number of its newest checkpoint.
    pub(crate) async fn newest_checkpoint(&self) -> i64 {
        self.count(
            "select coalesce(max(checkpoint_no), 0) from checkpoint join tenant using (tenant_id)
             where namespace = $1",
        )
        .await
    }

    /// Takes its newest checkpoint away; the time of that one.
    pub(crate) async fn remove_newest_checkpoint(&self) -> String {
        let row = sqlx::query(
            "with newest as (
                 select tenant_id, max(checkpoint_no) as checkpoint_no
                 from checkpoint join tenant using (tenant_id)
                 where namespace = $1 group by tenant_id
             ), heads as (
                 delete from checkpoint_head h using newest n
                 where h.tenant_id = n.tenant_id and h.checkpoint_no = n.checkpoint_no
             )
             delete from checkpoint c using newest n
             where c.tenant_id = n.tenant_id and c.checkpoint_no = n.checkpoint_no
             returning to_char(checkpoint_time at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
        )
        .bind(&self.namespace)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        row.get(0)
    }

    /// Takes away all chains and checkpoints, of whatever tenant.
    pub(crate) async fn remove_audit(&self) {
        for table in ["checkpoint_head", "checkpoint", "audit_chain"] {
            let statement = format!("delete from {table}");
            sqlx::query(AssertSqlSafe(statement))
                .execute(&self.pool)
                .await
                .unwrap();
        }
    }

    /// How many records say that a broker did not tell.
    pub(crate) async fn unaccounted(&self) -> i64 {
        self.count(
            "select count(*) from access_record join tenant using (tenant_id)
             where namespace = $1 and outcome in ('Unaccounted', 'Accounted')",
        )
        .await
    }

    /// Lapses what its brokers still hold, as the sweep does in its time.
    pub(crate) async fn lapse(&self) {
        let lapsed = sqlx::query(
            "update allowance set state = 'Lapsed', closed_time = now()
             from tenant where tenant.tenant_id = allowance.tenant_id and namespace = $1
               and state = 'Open'",
        )
        .bind(&self.namespace)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_ne!(lapsed.rows_affected(), 0);
    }

    /// Records a use of one of its tokens, just now, outside of any chain.
    pub(crate) async fn record_use(&self, token: &str) {
        let recorded = sqlx::query(
            "insert into access_record
                 (tenant_id, chain_id, record_no, recorded_time, outcome, user_uid, token_id,
                  version, service_account_name, app_name, purpose, count, first_time, last_time,
                  secret_version, mac)
             select tenant_id, gen_random_uuid(), 1, clock_timestamp(), 'Served', user_uid,
                    token_id, 1, 'app', 'app', 'test', 1, now(), now(), 1,
                    decode(repeat('00', 32), 'hex')
             from token join tenant using (tenant_id)
             where namespace = $1 and token.name = $2 and deleted_time is null",
        )
        .bind(&self.namespace)
        .bind(token)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(recorded.rows_affected(), 1);
    }

    /// Every row of the namespace with the transaction that wrote it.
    pub(crate) async fn snapshot(&self) -> Vec<String> {
        let tables = [
            "token_user",
            "workload",
            "token",
            "consumer",
            "token_version",
            "revoked_value",
            "quota",
            "quota_set",
        ];
        let mut all = Vec::new();
        for table in tables {
            // Not a literal, but of literals only.
            let query = format!(
                "select '{table} ' || r.xmin::text || ' ' || r::text from {table} r
                 join tenant t using (tenant_id) where t.namespace = $1"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(query))
                .bind(&self.namespace)
                .fetch_all(&self.pool)
                .await
                .unwrap();
            all.extend(rows.iter().map(|row| row.get::<String, _>(0)));
        }
        all.sort();
        all
    }

    /// Its quotas, by name, with what they are about: a UID, the name of a service account, or
    /// nothing.
    pub(crate) async fn quotas(&self) -> Vec<(String, String)> {
        let rows = sqlx::query(
            "select name, subject from quota join tenant using (tenant_id)
             where namespace = $1 order by name",
        )
        .bind(&self.namespace)
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Charges so many units to what a quota looks at, in the present window: as if brokers had
    /// been granted them.
    pub(crate) async fn charge(&self, quota: &str, units: i64) {
        let done = sqlx::query(
            "with counted as (
                 select tenant_id, period_s, string_agg(
                     int8send(octet_length(field)) || convert_to(field, 'UTF8'), null order by place
                 ) as fields
                 from quota join tenant using (tenant_id),
                     unnest(array[subject_kind, subject, counter, coalesce(period_s, 0)::text])
                         with ordinality as f (field, place)
                 where namespace = $1 and name = $2
                 group by tenant_id, period_s
             )
             insert into quota_window (tenant_id, usage_id, window_no, description, charged)
             select tenant_id, encode(substring(sha256(fields) for 16), 'hex')::uuid,
                    coalesce(floor(extract(epoch from now()))::bigint / period_s, 0), 'test', $3
             from counted
             on conflict (tenant_id, usage_id, window_no) do update set charged = excluded.charged",
        )
        .bind(&self.namespace)
        .bind(quota)
        .bind(units)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1, "the vault has no quota {quota}");
    }

    /// Raises the limit of a quota, as somebody who can write to the database.
    pub(crate) async fn tamper_with_quota(&self, quota: &str) {
        let done = sqlx::query(
            "update quota q set units = units + 1000 from tenant t
             where t.tenant_id = q.tenant_id and t.namespace = $1 and q.name = $2",
        )
        .bind(&self.namespace)
        .bind(quota)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Makes the list of quotas one that the vault did not write.
    pub(crate) async fn tamper_with_quota_list(&self) {
        let done = sqlx::query(
            "update quota_set s set mac = sha256('tampered') from tenant t
             where t.tenant_id = s.tenant_id and t.namespace = $1",
        )
        .bind(&self.namespace)
        .execute(&self.pool)
        .await
        .unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// The names of the quotas on the list, none for one that has no row, and the list's epoch;
    /// `None` while the list is tampered with.
    pub(crate) async fn quota_list(&self) -> Option<(Vec<Option<String>>, i64)> {
        let row = sqlx::query(
            "select array_agg(q.name order by q.name), s.epoch
             from quota_set s join tenant t using (tenant_id)
             cross join unnest(s.quota_ids) as listed (id)
             left join quota q on q.tenant_id = s.tenant_id and q.quota_id = listed.id
             where t.namespace = $1 and s.mac <> sha256('tampered')
             group by s.epoch",
        )
        .bind(&self.namespace)
        .fetch_optional(&self.pool)
        .await
        .unwrap()?;
        Some((row.get(0), row.get(1)))
    }

    /// Changes the ciphertext of every version, as somebody who can write to the database.
    pub(crate) async fn tamper(&self) {
        sqlx::query(
            "update token_version v set ciphertext = ciphertext || '\\x00'
             from tenant t where t.tenant_id = v.tenant_id and t.namespace = $1",
        )
        .bind(&self.namespace)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    async fn count(&self, query: &'static str) -> i64 {
        let row = sqlx::query(query)
            .bind(&self.namespace)
            .fetch_one(&self.pool)
            .await;
        row.unwrap().get(0)
    }
}
