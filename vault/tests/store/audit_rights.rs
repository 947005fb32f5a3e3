//! What somebody with the vault's own connection to the database cannot do to the audit.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing_subscriber::fmt;
use uuid::Uuid;

use crate::fixture::Fixture;
use crate::thread_log::ThreadLog;

const INSUFFICIENT_PRIVILEGE: &str = "42501";

struct Intruder {
    fixture: Fixture,
    connection: PgConnection,
}

impl Intruder {
    async fn new(hint: &str) -> Self {
        let fixture = Fixture::new(hint).await;
        let url = &fixture.database.runtime_url;
        let connection = PgConnection::connect(url).await.unwrap();
        Self {
            fixture,
            connection,
        }
    }

    async fn run(&mut self, statement: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    async fn has_no_right_to(&mut self, statement: &str) {
        let error = match self.run(statement).await {
            Err(sqlx::Error::Database(error)) => error,
            other => panic!("{statement}: {other:?}"),
        };
        let code = error.code().unwrap_or_default().into_owned();
        assert_eq!(code, INSUFFICIENT_PRIVILEGE, "{statement}: {error}");
    }

    /// Asks for the records of a day to be dropped, an SQL expression: whether there were any, or
    /// why not.
    async fn drop_day(&mut self, day: &str) -> Result<bool, String> {
        let dropped = sqlx::query_scalar(AssertSqlSafe(format!(
            "select public.drop_audit_partition({day})"
        )))
        .fetch_one(&mut self.connection)
        .await;
        dropped.map_err(|error| error.to_string())
    }

    async fn partitions(&self) -> Vec<String> {
        self.fixture
            .tamper_returning::<(String,)>(
                "select relname::text from pg_inherits join pg_class on oid = inhrelid
                 where inhparent = 'access_record'::regclass order by 1",
            )
            .await
            .into_iter()
            .map(|(name,)| name)
            .collect()
    }
}

/// The day so long ago, in UTC.
fn ago(days: u32) -> String {
    format!("((now() at time zone 'UTC')::date - {days})")
}

impl Fixture {
    /// A day's partition with one record of a tenant, as if it had been written then.
    async fn record_of(&self, tenant: Uuid, days_ago: u32) {
        self.tamper(&format!(
            "do $$ declare d date := {};
             begin
                 execute format('create table access_record_%s partition of access_record
                                 for values from (%L) to (%L)', to_char(d, 'YYYYMMDD'),
                                d::timestamp at time zone 'UTC',
                                (d + 1)::timestamp at time zone 'UTC');
                 execute format('alter table access_record_%s owner to %I',
                                to_char(d, 'YYYYMMDD'), current_database());
                 insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
                     service_account_name, app_name, purpose, count, first_time, last_time,
                     secret_version, mac)
                 values ('{tenant}', '{tenant}', 1,
                         d::timestamp at time zone 'UTC' + interval '23 hours 59 minutes',
                         'Queried', '', '', '', 1, now(), now(), 1, sha256(''));
             end $$",
            ago(days_ago)
        ))
        .await;
    }

    async fn boundary_of(&self, tenant: Uuid, number: u32, days_ago: u32) {
        self.tamper(&format!(
            "insert into checkpoint (tenant_id, checkpoint_no, checkpoint_time, kind, through_day,
                                     heads_digest, secret_version, mac)
             values ('{tenant}', {number}, now(), 'Boundary', {}, sha256(''), 1, sha256(''))",
            ago(days_ago)
        ))
        .await;
    }
}

#[tokio::test]
async fn the_vaults_role_changes_and_removes_nothing_of_the_audit() {
    let mut intruder = Intruder::new("intruder").await;
    let partitions = intruder.partitions().await;
    assert_eq!(partitions.len(), 8, "{partitions:?}");
    let audit = ["access_record", "checkpoint", "checkpoint_head"];
    let tables = audit
        .into_iter()
        .chain(partitions.iter().map(String::as_str));
    for table in tables {
        for statement in [
            format!("update {table} set mac = mac"),
            format!("delete from {table}"),
        ] {
            intruder.has_no_right_to(&statement).await;
        }
    }
    intruder.has_no_right_to("delete from audit_chain").await;
    intruder
        .has_no_right_to("update audit_chain set boundary_no = 7, boundary_mac = mac")
        .await;
    intruder
        .has_no_right_to(
            "insert into audit_chain select tenant_id, gen_random_uuid(), 7, now(), mac, 7, mac
             from audit_chain",
        )
        .await;
    intruder
        .has_no_right_to("update audit_retention set days = 1")
        .await;
    for table in audit
        .into_iter()
        .chain(["audit_chain", "audit_retention"])
        .chain(partitions.iter().map(String::as_str))
    {
        for statement in [
            format!("truncate {table} cascade"),
            format!("drop table {table} cascade"),
            format!("alter table {table} rename to other"),
            format!("alter table {table} owner to current_user"),
            format!("create index on {table} (tenant_id)"),
            format!("create rule nothing as on insert to {table} do instead nothing"),
            format!(
                "create trigger t before insert on {table} execute function suppress_redundant_updates_trigger()"
            ),
        ] {
            intruder.has_no_right_to(&statement).await;
        }
    }
    let today = &partitions[0];
    for statement in [
        format!("alter table access_record detach partition {today}"),
        format!("alter table access_record detach partition {today} concurrently"),
        format!("select from {today}"),
        format!("insert into {today} select * from access_record"),
        "alter function drop_audit_partition security invoker".to_owned(),
        "drop function drop_audit_partition".to_owned(),
        "create function public.f() returns int language sql return 1".to_owned(),
        "create table public.t (x int)".to_owned(),
        "alter role current_user superuser".to_owned(),
        "set session_replication_role = replica".to_owned(),
        format!("set role \"{}\"", intruder.fixture.database.name),
        "select grant_runtime('public')".to_owned(),
    ] {
        intruder.has_no_right_to(&statement).await;
    }
}

#[tokio::test]
async fn a_partition_made_later_gives_the_vaults_role_no_more_than_the_others() {
    let mut intruder = Intruder::new("later").await;
    let before = intruder.partitions().await;
    let bounds = "select pg_get_expr(relpartbound, oid) from pg_class
                  where relispartition and relkind = 'r' order by relname";
    let bounds_before: Vec<(String,)> = intruder.fixture.tamper_returning(bounds).await;
    let last = before.last().unwrap();
    intruder.fixture.tamper(&format!("drop table {last}")).await;
    // In this style a time's zone is an abbreviation, which Postgres reads as another one.
    intruder
        .run("set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kolkata'")
        .await
        .unwrap();
    intruder
        .run("select create_audit_partitions()")
        .await
        .unwrap();
    assert_eq!(&intruder.partitions().await, &before);
    let bounds: Vec<(String,)> = intruder.fixture.tamper_returning(bounds).await;
    assert_eq!(bounds, bounds_before);
    for statement in ["update {} set mac = mac", "delete from {}", "truncate {}"] {
        let statement = statement.replace("{}", last);
        intruder.has_no_right_to(&statement).await;
    }
}

#[tokio::test]
async fn a_day_within_the_retention_is_not_dropped() {
    let mut intruder = Intruder::new("young").await;
    let tenant = Uuid::new_v4();
    intruder.fixture.record_of(tenant, 90).await;
    intruder.fixture.boundary_of(tenant, 1, 0).await;
    let kept = intruder.partitions().await;
    for day in [ago(0), ago(90), "'infinity'::date".to_owned()] {
        let refusal = intruder.drop_day(&day).await.unwrap_err();
        assert!(refusal.contains("the retention is 90 days"), "{refusal}");
    }
    // The same digits, two thousand years before Christ.
    let namesake = format!(
        "to_date(to_char({}, 'YYYY-MM-DD') || ' BC', 'YYYY-MM-DD BC')",
        ago(0)
    );
    for day in [&namesake, "null", "'-infinity'::date"] {
        let refusal = intruder.drop_day(day).await.unwrap_err();
        assert!(refusal.contains("there are no records of"), "{refusal}");
    }
    assert_eq!(intruder.partitions().await, kept);
}

#[tokio::test]
async fn a_day_is_dropped_only_behind_a_boundary_of_each_tenant_that_has_records_in_it() {
    let mut intruder = Intruder::new("unbound").await;
    let mut tenants = Vec::new();
    for name in ["one", "two"] {
        tenants.push(intruder.fixture.tenant(name).await.id().as_uuid());
    }
    tenants.sort();
    let (one, two) = (tenants[0], tenants[1]);
    intruder.fixture.record_of(one, 91).await;
    intruder
        .fixture
        .tamper(&format!(
            "insert into access_record select '{two}', chain_id, record_no, recorded_time, outcome,
                 report_seq, allowance_id, user_uid, token_id, version, service_account_name,
                 app_name, purpose, count, first_time, last_time, decision_id, code, reason,
                 user_name, token_name, person, secret_version, mac from access_record"
        ))
        .await;
    let day = ago(91);
    let refusal = intruder.drop_day(&day).await.unwrap_err();
    assert!(refusal.contains(&one.to_string()), "{refusal}");
    intruder.fixture.boundary_of(one, 1, 91).await;
    // One of another day does not do.
    intruder.fixture.boundary_of(two, 1, 92).await;
    intruder.fixture.boundary_of(two, 2, 90).await;
    let refusal = intruder.drop_day(&day).await.unwrap_err();
    assert!(refusal.contains(&two.to_string()), "{refusal}");
    intruder.fixture.boundary_of(two, 3, 91).await;
    assert_eq!(intruder.drop_day(&day).await, Ok(true));
    assert_eq!(intruder.drop_day(&day).await, Ok(false));
    assert_eq!(intruder.partitions().await.len(), 8);
}

#[tokio::test]
async fn tables_of_the_same_names_in_front_do_not_lead_the_owners_functions_astray() {
    let mut intruder = Intruder::new("astray").await;
    let tenant = intruder.fixture.tenant("team").await.id().as_uuid();
    intruder.fixture.record_of(tenant, 91).await;
    for statement in [
        "create temporary table audit_retention as select -1000 as days",
        "create temporary table checkpoint as
             select gen_random_uuid() as tenant_id, 'Boundary' as kind, 'infinity'::date as through_day",
        &format!("update pg_temp.checkpoint set tenant_id = '{tenant}'"),
        "create temporary table access_record (tenant_id uuid)",
        "set search_path = pg_temp, public",
    ] {
        intruder.run(statement).await.unwrap();
    }
    let refusal = intruder.drop_day(&ago(0)).await.unwrap_err();
    assert!(refusal.contains("the retention is 90 days"), "{refusal}");
    let refusal = intruder.drop_day(&ago(91)).await.unwrap_err();
    assert!(refusal.contains("no boundary behind them"), "{refusal}");

    let before = intruder.partitions().await;
    let last = before.last().unwrap();
    intruder.fixture.tamper(&format!("drop table {last}")).await;
    intruder
        .run("select public.create_audit_partitions()")
        .await
        .unwrap();
    assert_eq!(intruder.partitions().await, before);
}

#[tokio::test]
async fn every_function_that_runs_as_the_owner_says_where_it_looks_and_is_not_everybodys() {
    let fixture = Fixture::new("definers").await;
    let definers: Vec<(String, Option<Vec<String>>, bool)> = fixture
        .tamper_returning(
            "select proname::text, proconfig,
                    exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner)))
                            where grantee = 0)
             from pg_proc where pronamespace = 'public'::regnamespace and prosecdef",
        )
        .await;
    assert_eq!(definers.len(), 2);
    for (name, settings, for_everybody) in definers {
        let settings = settings.unwrap_or_default();
        assert!(
            settings
                .iter()
                .any(|one| one == "search_path=pg_catalog, pg_temp"),
            "{name}: {settings:?}"
        );
        assert!(!for_everybody, "{name}");
    }
}

#[tokio::test]
async fn a_role_that_may_change_or_remove_anything_of_the_audit_is_warned_of() {
    let log = fmt().with_ansi(false).with_writer(|| ThreadLog).finish();
    let _here = tracing::subscriber::set_default(log);
    let fixture = Fixture::new("too_much").await;
    let role = &fixture.database.runtime_role;
    let warned = async || {
        ThreadLog::take();
        fixture.restarted().await;
        ThreadLog::take().contains("may edit the audit")
    };
    assert!(!warned().await);
    for right in [
        "update (count) on access_record",
        "delete on access_record",
        "update (mac) on checkpoint",
        "delete on checkpoint_head",
        "truncate on audit_chain",
        "update (boundary_no) on audit_chain",
        "insert (boundary_mac) on audit_chain",
    ] {
        fixture
            .tamper(&format!("grant {right} to \"{role}\""))
            .await;
        assert!(warned().await, "{right}");
        fixture
            .tamper(&format!("revoke {right} from \"{role}\""))
            .await;
    }
    assert!(!warned().await);
}
