//! Those who share windows take them in one order, whatever order they name them in: none
//! waits for another in a circle.

use bursar_vault::Tenant;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::fixture::Fixture;

/// Many enough that no other order is theirs by chance.
const WINDOWS: u128 = 8;
/// What is charged to each window before.
const CHARGED: i64 = 100;

/// The shared counts, in the order of their keys.
fn in_order() -> Vec<Uuid> {
    (1..=WINDOWS).map(Uuid::from_u128).collect()
}

fn turned() -> Vec<Uuid> {
    in_order().into_iter().rev().collect()
}

/// A call that names these counts, none of them with a period.
struct Call<'a> {
    tenant: &'a Tenant,
    usages: Vec<Uuid>,
}

impl Call<'_> {
    fn ids(&self) -> String {
        let ids = self.usages.iter().map(|id| format!("'{id}'"));
        format!("array[{}]::uuid[]", ids.collect::<Vec<_>>().join(", "))
    }

    /// Ids, descriptions, periods and limits.
    fn counts(&self) -> String {
        let count = self.usages.len();
        format!(
            "{}, array_fill('of all'::text, array[{count}]),
             array_fill(null::bigint, array[{count}]), array_fill(1000::bigint, array[{count}])",
            self.ids()
        )
    }

    fn open(&self) -> String {
        format!(
            "select granted::text from open_allowance(
                 '{}', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1,
                 gen_random_uuid(), 1, 1, 'app', 1, 1, interval '1 minute', 'infinity', {})",
            self.tenant.id(),
            self.counts()
        )
    }

    fn consume(&self) -> String {
        let tenant = self.tenant.id();
        format!(
            "select outcome from consume_units('{tenant}', 1, {}, (
                 select xmin::text from quota_set where tenant_id = '{tenant}'))",
            self.counts()
        )
    }

    fn release(&self) -> String {
        format!(
            "select cardinality(usage_ids)::text from release_units(
                 '{}', 1, {}, array_fill(null::bigint, array[{}]))",
            self.tenant.id(),
            self.ids(),
            self.usages.len()
        )
    }

    fn refund(&self, allowance: Uuid) -> String {
        let tenant = self.tenant.id();
        format!("select refund('{tenant}', array['{allowance}'::uuid], array[1])::text")
    }
}

async fn fixture(hint: &str) -> (Fixture, Tenant) {
    let fixture = Fixture::new(hint).await;
    let tenant = fixture.tenant("team").await;
    (fixture, tenant)
}

/// Makes the windows, the last in the order of keys first: as they lie in the table is not
/// as they are to be locked.
async fn make_windows(fixture: &Fixture, tenant: &Tenant) {
    for usage in turned() {
        let window = format!(
            "insert into quota_window (tenant_id, usage_id, window_no, description, charged)
             values ('{}', '{usage}', 0, 'of all', {CHARGED})",
            tenant.id()
        );
        fixture.tamper(&window).await;
    }
}

/// An allowance that was charged to all windows, the last first.
async fn charged_allowance(fixture: &Fixture, tenant: &Tenant) -> Uuid {
    let allowance = Uuid::new_v4();
    for usage in turned() {
        let charge = format!(
            "insert into allowance_charge (tenant_id, allowance_id, usage_id, window_no,
                                           incarnation_id)
             values ('{}', '{allowance}', '{usage}', 0, gen_random_uuid())",
            tenant.id()
        );
        fixture.tamper(&charge).await;
    }
    allowance
}

/// Two calls come one behind the other to the first window, which somebody holds until both
/// wait. What each was answered, and by how much all windows are charged after both.
async fn meet(
    fixture: &Fixture,
    tenant: &Tenant,
    [first, second]: [&str; 2],
) -> ([String; 2], i64) {
    let mut gate = fixture.sql.begin().await.unwrap();
    sqlx::query("select from quota_window where tenant_id = $1 and usage_id = $2 for update")
        .bind(tenant.id().as_uuid())
        .bind(in_order()[0])
        .fetch_one(&mut *gate)
        .await
        .unwrap();
    let call = |statement: &str| {
        let (sql, statement): (PgPool, _) = (fixture.sql.clone(), statement.to_owned());
        tokio::spawn(async move {
            let answer = sqlx::query_scalar(AssertSqlSafe(statement));
            answer.fetch_one(&sql).await
        })
    };
    let first = call(first);
    fixture.until_waiting(1).await;
    // It waits behind the first, and whatever it has locked by then the first waits for.
    let second = call(second);
    fixture.until_waiting(2).await;
    gate.rollback().await.unwrap();
    let answers = [first.await.unwrap(), second.await.unwrap()]
        .map(|answer: Result<String, sqlx::Error>| answer.expect("each waits for its turn"));
    let charged = format!(
        "select charged from quota_window where tenant_id = '{}' group by charged",
        tenant.id()
    );
    let charged: Vec<(i64,)> = fixture.tamper_returning(&charged).await;
    let [(charged,)] = charged[..] else {
        panic!("some windows and not others were charged: {charged:?}");
    };
    (answers, charged - CHARGED)
}

#[tokio::test]
async fn grants_that_name_their_windows_in_opposite_order_do_not_wait_in_a_circle() {
    let (fixture, tenant) = fixture("order_open").await;
    let tenant = &tenant;
    make_windows(&fixture, tenant).await;
    let [one, other] = [in_order(), turned()].map(|usages| Call { tenant, usages }.open());
    let met = meet(&fixture, tenant, [&one, &other]).await;
    assert_eq!(met, (["1".into(), "1".into()], 2));
}

#[tokio::test]
async fn consumptions_and_releases_in_opposite_order_do_not_wait_in_a_circle() {
    let (fixture, tenant) = fixture("order_own").await;
    let tenant = &tenant;
    let set = format!(
        "insert into quota_set values ('{}', '{{}}', 1, 1, decode(repeat('00', 32), 'hex'))
         on conflict do nothing",
        tenant.id()
    );
    fixture.tamper(&set).await;
    make_windows(&fixture, tenant).await;
    let [one, other] = [in_order(), turned()].map(|usages| Call { tenant, usages });
    let met = meet(&fixture, tenant, [&one.consume(), &other.consume()]).await;
    assert_eq!(met, (["Counted".into(), "Counted".into()], 2));
    let met = meet(&fixture, tenant, [&one.release(), &other.release()]).await;
    assert_eq!(met, (["8".into(), "8".into()], 0));
    let met = meet(&fixture, tenant, [&one.open(), &other.consume()]).await;
    assert_eq!(met, (["1".into(), "Counted".into()], 2));
}

#[tokio::test]
async fn a_refund_takes_its_windows_in_the_order_of_grants() {
    let (fixture, tenant) = fixture("order_refund").await;
    let tenant = &tenant;
    make_windows(&fixture, tenant).await;
    let usages = in_order();
    let call = Call { tenant, usages };
    let allowance = charged_allowance(&fixture, tenant).await;
    let met = meet(&fixture, tenant, [&call.open(), &call.refund(allowance)]).await;
    assert_eq!(met, (["1".into(), String::new()], 0));
}

/// A transaction that makes a call and commits, and the process that runs it.
async fn spawn(fixture: &Fixture, statement: String) -> (i32, JoinHandle<()>) {
    let mut transaction = fixture.sql.begin().await.unwrap();
    let pid = sqlx::query_scalar("select pg_backend_pid()");
    let pid = pid.fetch_one(&mut *transaction).await.unwrap();
    let call = tokio::spawn(async move {
        let done = sqlx::query(AssertSqlSafe(statement));
        done.execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    });
    (pid, call)
}

#[tokio::test]
async fn windows_that_nobody_had_before_are_made_in_one_order() {
    let (fixture, tenant) = fixture("order_new").await;
    let tenant = &tenant;
    for call in [Call::open, Call::consume] {
        fixture.tamper("delete from quota_window").await;
        let [one, other] = [in_order(), turned()].map(|usages| call(&Call { tenant, usages }));
        // Somebody is making the last one.
        let usages = turned()[..1].to_vec();
        let mut gate = fixture.sql.begin().await.unwrap();
        sqlx::query(AssertSqlSafe(call(&Call { tenant, usages })))
            .execute(&mut *gate)
            .await
            .unwrap();
        let (first_pid, first) = spawn(&fixture, one).await;
        fixture.until_waiting(1).await;
        let (second_pid, second) = spawn(&fixture, other).await;
        fixture.until_waiting(2).await;
        // The second waits for what the first has made, and has made none that comes later.
        let before_it = format!("select unnest(pg_blocking_pids({second_pid}))");
        let before_it: Vec<(i32,)> = fixture.tamper_returning(&before_it).await;
        assert_eq!(before_it, [(first_pid,)]);
        gate.rollback().await.unwrap();
        first.await.unwrap();
        second.await.unwrap();
    }
}
