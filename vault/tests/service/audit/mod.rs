//! The audit verifies while it is written, and whatever is changed in it by SQL is
//! found and named (I8).

mod checkpoints;
mod records;
mod times;
mod writing;

use bursar_vault::{Anchor, BadPlace, Verification, Wrong};
use uuid::Uuid;

use crate::support::broker::{Broker, served};
use crate::support::replica::Replica;
use crate::support::{Bed, Team};
use bursar_wire::v1alpha1::Granted;

/// The tables of the audit.
const TABLES: [&str; 4] = [
    "access_record",
    "audit_chain",
    "checkpoint",
    "checkpoint_head",
];

/// One incarnation and what it may serve.
struct Holder {
    broker: Broker,
    granted: Granted,
}

impl Holder {
    /// Records so many reports of one record each.
    async fn serve(&mut self, reports: u32) {
        for _ in 0..reports {
            let record = served(&self.granted, 1);
            self.broker.report(vec![record], vec![]).await.unwrap();
        }
    }

    fn chain(&self) -> Uuid {
        self.broker.incarnation_uuid()
    }
}

/// Two tenants. The first has two chains of six records each: checkpoint 1 covers
/// four of them, checkpoint 2 five. The second has one chain of one record.
struct Scene {
    bed: Bed,
    replica: Replica,
    team: Team,
    /// In the order of their chains.
    holders: [Holder; 2],
    other: Team,
    other_chain: Uuid,
    anchor: Anchor,
}

impl Scene {
    async fn new(hint: &str) -> Self {
        let bed = Bed::new(hint).await;
        let replica = bed.replica().await;
        let (team, other) = (bed.team("team").await, bed.team("other").await);
        let mut holders = [
            holder(&bed, &replica, &team, "ana").await,
            holder(&bed, &replica, &team, "bo").await,
        ];
        holders.sort_by_key(Holder::chain);
        let mut elsewhere = holder(&bed, &replica, &other, "eva").await;
        elsewhere.serve(1).await;
        for reports in [4, 1] {
            for holder in &mut holders {
                holder.serve(reports).await;
            }
            bed.controllers.checkpoint_all().await.unwrap();
        }
        let checkpoints = bed.controllers.checkpoint_all().await.unwrap();
        for holder in &mut holders {
            holder.serve(1).await;
        }
        let scene = Self {
            other_chain: elsewhere.chain(),
            anchor: checkpoints.anchor.unwrap(),
            bed,
            replica,
            team,
            holders,
            other,
        };
        scene.save("saved").await;
        scene
    }

    /// The first chain.
    fn chain(&self) -> Uuid {
        self.holders[0].chain()
    }

    async fn verify_of(&self, team: &Team, anchor: Option<&Anchor>) -> Verification {
        let vault = self.bed.controllers.vault();
        let verified = vault.verify_audit(team.tenant.id(), anchor).await;
        verified.unwrap()
    }

    /// What is wrong in the first tenant.
    async fn first_bad(&self) -> Option<BadPlace> {
        self.verify_of(&self.team, Some(&self.anchor))
            .await
            .first_bad
    }

    async fn save(&self, name: &str) {
        for table in TABLES {
            let before = format!("drop table if exists {name}_{table}");
            self.bed.tamper(&before).await;
            let copy = format!("create table {name}_{table} as select * from {table}");
            self.bed.tamper(&copy).await;
        }
    }

    /// Puts all tables of the audit back.
    async fn restore(&self, name: &str) {
        for table in TABLES.iter().rev() {
            self.bed.tamper(&format!("delete from {table}")).await;
        }
        for table in TABLES {
            let put = format!("insert into {table} select * from {name}_{table}");
            self.bed.tamper(&put).await;
        }
    }

    /// Does what an attacker would, verifies, and undoes it.
    async fn after(&self, statements: &[&str]) -> Option<BadPlace> {
        for statement in statements {
            let done = self.bed.tamper(&self.filled(statement)).await;
            assert!(done > 0, "{statement}: nothing was changed");
        }
        let found = self.first_bad().await;
        self.restore("saved").await;
        assert_eq!(self.first_bad().await, None, "{statements:?}: not undone");
        found
    }

    /// CHAIN and BESIDE stand for the two chains, TENANT for theirs.
    fn filled(&self, statement: &str) -> String {
        let tenant = self.team.tenant.id();
        statement
            .replace("CHAIN", &format!("chain_id = '{}'", self.chain()))
            .replace("BESIDE", &format!("'{}'", self.holders[1].chain()))
            .replace("TENANT", &format!("tenant_id = '{tenant}'"))
    }

    /// Finds this in this record of the first chain.
    async fn finds(&self, record_no: i64, wrong: Wrong, statements: &[&str]) {
        let bad = self.after(statements).await;
        let bad = bad.unwrap_or_else(|| panic!("{statements:?} was not found"));
        let place = (bad.chain_id, bad.record_no, bad.wrong);
        assert_eq!(
            place,
            (Some(self.chain()), Some(record_no), wrong),
            "{statements:?}: {bad}"
        );
    }

    /// Finds this in this checkpoint.
    async fn finds_checkpoint(&self, number: i64, wrong: Wrong, statements: &[&str]) {
        let bad = self.after(statements).await;
        let bad = bad.unwrap_or_else(|| panic!("{statements:?} was not found"));
        let place = (bad.chain_id, bad.checkpoint_no, bad.wrong);
        assert_eq!(place, (None, Some(number), wrong), "{statements:?}: {bad}");
    }

    /// Columns of a table with their types.
    async fn columns(&self, table: &str) -> Vec<(String, String)> {
        sqlx::query_as(
            "select column_name::text, data_type::text from information_schema.columns
             where table_schema = 'public' and table_name = $1 order by ordinal_position",
        )
        .bind(table)
        .fetch_all(&self.bed.sql)
        .await
        .unwrap()
    }
}

async fn holder(bed: &Bed, replica: &Replica, team: &Team, user: &str) -> Holder {
    let spec = bed.user(team, user).await;
    bed.token(team, &spec, &format!("token-of-{user}")).await;
    let mut broker = bed.broker(replica, team, "app").await;
    let granted = broker.granted(user, &format!("token-of-{user}")).await;
    Holder { broker, granted }
}

/// Some other value of the same column that the schema allows.
fn another(column: &str, data_type: &str) -> String {
    match (column, data_type) {
        ("outcome", _) => "'Denied'".to_owned(),
        // The last of all chains, so that it is not the first bad place itself.
        ("chain_id", _) => "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid".to_owned(),
        (_, "uuid") => "gen_random_uuid()".to_owned(),
        (_, "text") => format!("coalesce({column}, '') || 'x'"),
        (_, "integer" | "bigint") => format!("coalesce({column}, 0) + 1"),
        (_, "timestamp with time zone") => format!("{column} + interval '1 microsecond'"),
        (_, "bytea") => format!("set_byte({column}, 31, get_byte({column}, 31) # 1)"),
        (_, other) => panic!("say how to change column {column} of type {other}"),
    }
}
