//! What the owner's functions delete of checkpoints and chains when the vault's own role
//! asks for it, and what they refuse to delete.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::fixture::Fixture;

struct Scene {
    fixture: Fixture,
    /// The vault's role.
    runtime: PgConnection,
    tenant: Uuid,
}

impl Scene {
    async fn new(hint: &str) -> Self {
        let fixture = Fixture::new(hint).await;
        let url = &fixture.database.runtime_url;
        Self {
            runtime: PgConnection::connect(url).await.unwrap(),
            tenant: fixture.tenant("team").await.id().as_uuid(),
            fixture,
        }
    }

    /// A checkpoint that was written so many days ago, at noon; a boundary with a day, so
    /// many days ago, up to which it goes.
    async fn checkpoint(&self, number: i64, days_ago: u32, through: Option<u32>) {
        let (kind, through) = match through {
            None => ("Regular", "null".to_owned()),
            Some(through) => ("Boundary", format!("{}::date", ago(through))),
        };
        self.fixture
            .tamper(&format!(
                "insert into checkpoint (tenant_id, checkpoint_no, checkpoint_time, kind,
                                         through_day, heads_digest, secret_version, mac)
                 values ('{}', {number}, ({} + interval '12 hours') at time zone 'UTC', '{kind}',
                         {through}, sha256(''), 1, sha256(''))",
                self.tenant,
                ago(days_ago),
            ))
            .await;
    }

    /// Heads of so many chains, numbered from 1, each at this record.
    async fn heads(&self, number: i64, chains: u32, record_no: i64) {
        self.fixture
            .tamper(&format!(
                "insert into checkpoint_head
                 select '{}', {number}, md5(n::text)::uuid, {record_no}, sha256('')
                 from generate_series(1, {chains}) as n",
                self.tenant,
            ))
            .await;
    }

    /// So many chains, numbered from 1, of three records.
    async fn chains(&self, chains: u32, boundary_no: Option<i64>) {
        let boundary = match boundary_no {
            None => "null, null".to_owned(),
            Some(number) => format!("{number}, sha256('')"),
        };
        self.fixture
            .tamper(&format!(
                "insert into audit_chain
                 select '{}', md5(n::text)::uuid, 3, now(), sha256(''), {boundary}
                 from generate_series(1, {chains}) as n on conflict do nothing",
                self.tenant,
            ))
            .await;
    }

    async fn trim_heads(&mut self, after: i64) -> Option<i64> {
        sqlx::query_scalar("select trim_checkpoint_heads($1, $2)")
            .bind(self.tenant)
            .bind(after)
            .fetch_one(&mut self.runtime)
            .await
            .unwrap()
    }

    async fn trim_chains(&mut self) -> i64 {
        sqlx::query_scalar("select trim_audit_chains($1)")
            .bind(self.tenant)
            .fetch_one(&mut self.runtime)
            .await
            .unwrap()
    }

    /// The checkpoints that have heads.
    async fn with_heads(&self) -> Vec<i64> {
        let numbers = "select distinct checkpoint_no from checkpoint_head order by 1";
        let rows: Vec<(i64,)> = self.fixture.tamper_returning(numbers).await;
        rows.into_iter().map(|(number,)| number).collect()
    }
}

/// The beginning of the day so long ago, in UTC.
fn ago(days: u32) -> String {
    format!("((now() at time zone 'UTC')::date - {days})::timestamp")
}

#[tokio::test]
async fn heads_behind_a_dropped_day_go_in_batches_of_whole_checkpoints() {
    let mut scene = Scene::new("trim_batches").await;
    scene.chains(6_000, Some(3)).await;
    for number in 1..=3 {
        scene.checkpoint(number, 92, None).await;
        scene.heads(number, 6_000, number).await;
    }
    scene.checkpoint(4, 0, Some(91)).await;
    scene.heads(4, 6_000, 3).await;
    assert_eq!(scene.trim_heads(0).await, Some(2));
    assert_eq!(scene.with_heads().await, [3, 4]);
    assert_eq!(scene.trim_heads(2).await, None);
    assert_eq!(scene.with_heads().await, [4], "the boundary keeps its own");
    assert_eq!(
        scene.fixture.count("select count(*) from checkpoint").await,
        4
    );
}

#[tokio::test]
async fn heads_that_are_not_behind_a_dropped_day_stay() {
    let mut scene = Scene::new("trim_refused").await;
    scene.chains(2, Some(1)).await;
    scene.chains(3, None).await;
    scene.checkpoint(1, 92, None).await;
    scene.heads(1, 2, 1).await;
    // Of a record that is there: of all chains, of one of them, of one that begins at 1.
    scene.checkpoint(2, 92, None).await;
    scene.heads(2, 2, 2).await;
    scene.checkpoint(3, 92, None).await;
    scene.heads(3, 3, 1).await;
    assert_eq!(scene.trim_heads(0).await, None, "there is no boundary");
    assert_eq!(scene.with_heads().await, [1, 2, 3]);
    // An older boundary, and one of a day within the retention.
    scene.checkpoint(4, 92, Some(183)).await;
    scene.heads(4, 2, 1).await;
    scene.checkpoint(5, 0, Some(90)).await;
    assert_eq!(scene.trim_heads(0).await, None);
    assert_eq!(scene.with_heads().await, [1, 2, 3, 4]);

    // Written after the day, and numbered behind its boundary.
    scene.checkpoint(6, 90, None).await;
    scene.heads(6, 2, 1).await;
    scene.checkpoint(7, 0, Some(91)).await;
    scene.heads(7, 2, 1).await;
    scene.checkpoint(8, 92, None).await;
    scene.heads(8, 2, 1).await;
    let other = scene.tenant;
    scene.tenant = scene.fixture.tenant("beside").await.id().as_uuid();
    assert_eq!(scene.trim_heads(0).await, None);
    assert_eq!(scene.with_heads().await, [1, 2, 3, 4, 6, 7, 8]);
    scene.tenant = other;
    assert_eq!(scene.trim_heads(0).await, None);
    assert_eq!(scene.with_heads().await, [2, 3, 4, 6, 7, 8]);
}

#[tokio::test]
async fn only_the_chain_of_a_run_that_is_gone_with_all_its_records_is_deleted() {
    let mut scene = Scene::new("trim_chains").await;
    let tenant = scene.tenant;
    scene.chains(1, Some(3)).await;
    let gone: Vec<(Uuid,)> = scene
        .fixture
        .tamper_returning("select chain_id from audit_chain")
        .await;
    let chain = async |chain: Uuid, boundary: &str| {
        scene
            .fixture
            .tamper(&format!(
                "insert into audit_chain
                 values ('{tenant}', '{chain}', 3, now(), sha256(''), {boundary})"
            ))
            .await;
        chain
    };
    // What people did, and what was not dropped up to its end.
    chain(tenant, "3, sha256('')").await;
    for boundary in ["2, sha256('')", "3, sha256('other')", "null, null"] {
        chain(Uuid::new_v4(), boundary).await;
    }
    let live = chain(Uuid::new_v4(), "3, sha256('')").await;
    scene
        .fixture
        .tamper(&format!(
            "insert into incarnation (tenant_id, incarnation_id, pod_uid, pod_name,
                 service_account_name, service_account_uid, review_due_time, key_version, mac)
             values ('{tenant}', '{live}', '', '', '', '', now(), 1, sha256(''))"
        ))
        .await;
    let recorded = chain(Uuid::new_v4(), "3, sha256('')").await;
    scene
        .fixture
        .tamper(&format!(
            "insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
                 service_account_name, app_name, purpose, count, first_time, last_time,
                 secret_version, mac)
             values ('{tenant}', '{recorded}', 3, now(), 'Served', '', '', '', 1, now(), now(), 1,
                     sha256(''))"
        ))
        .await;
    let cut = chain(Uuid::new_v4(), "3, sha256('')").await;
    scene
        .fixture
        .tamper(&format!(
            "insert into checkpoint_head values ('{tenant}', 1, '{cut}', 4, sha256(''))"
        ))
        .await;
    assert_eq!(scene.trim_chains().await, 1);
    assert_eq!(scene.trim_chains().await, 0);
    let is_left = format!("chain_id <> '{}'", gone[0].0);
    let left = "select count(*), count(*) filter (where IS_LEFT) from audit_chain";
    let left = left.replace("IS_LEFT", &is_left);
    let left: Vec<(i64, i64)> = scene.fixture.tamper_returning(&left).await;
    assert_eq!(left, [(7, 7)]);
}
