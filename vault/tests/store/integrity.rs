//! Every column that decides access is under a MAC: a change to it by SQL is
//! denied and put on record once, and nobody else notices (SECURITY 2).

use std::collections::BTreeSet;

use bursar_vault::{Serving, VaultError};

use crate::fixture::Fixture;
use crate::team::{Team, authentic, fixture_with, records};

/// What the test knows of a table.
enum Table {
    /// Its rows are authenticated, or sealed for their place. All columns decide
    /// but these, each with the reason why not.
    Authenticated(&'static [(&'static str, &'static str)]),
    /// Its rows are not, for this reason.
    Plain(&'static str),
}
use Table::{Authenticated, Plain};

/// All tables. A new one, or a new column of one that is authenticated, fails the
/// tests below until it is dealt with.
const TABLES: &[(&str, Table)] = &[
    (
        "access_record",
        Plain("chained, and tested where the audit is verified"),
    ),
    (
        "allowance",
        Plain("bound by the vault's own grant; a changed one cannot name another value"),
    ),
    (
        "allowance_charge",
        Plain("where a rest goes back to; the sum of the allowances tells of a changed one"),
    ),
    (
        "audit_chain",
        Plain("the last record and the checkpoints tell of a changed one"),
    ),
    (
        "audit_retention",
        Plain("the owner's; a shorter one drops what is bound by a boundary, and hides nothing"),
    ),
    (
        "change",
        Plain("only wakes and recalls; what is granted is read from the rows themselves"),
    ),
    ("change_head", Plain("as the change log")),
    (
        "checkpoint",
        Plain("chained, and tested where the audit is verified"),
    ),
    (
        "checkpoint_head",
        Plain("under its checkpoint's digest, and tested where the audit is verified"),
    ),
    ("consumer", Authenticated(&[])),
    ("denial", Plain("counts")),
    ("denial_told", Plain("counts")),
    (
        "idempotency_key",
        Plain("its MAC is tested where workloads count, in the service's tests"),
    ),
    (
        "incarnation",
        Plain("its identity is authenticated, and tested where the row is made"),
    ),
    ("integrity_failure", Plain("the record itself")),
    (
        "leader_term",
        Plain("a changed term can only stop a leader"),
    ),
    (
        "quota",
        Plain("authenticated, and tested where grants read it"),
    ),
    (
        "quota_set",
        Plain("authenticated, and tested where grants read it"),
    ),
    (
        "quota_window",
        Plain("a count; the sum of the allowances tells of a changed one"),
    ),
    (
        "revoked_value",
        Plain("a row more can only refuse or end a value, a row less is a row destroyed"),
    ),
    (
        "root_key",
        Plain("a changed check value can only keep the vault from starting"),
    ),
    (
        "slow_start",
        Plain("where accesses begin anew with one: it bounds a loss"),
    ),
    ("tenant", Authenticated(&[("created_time", "for people")])),
    (
        "tenant_key",
        Authenticated(&[(
            "root_version",
            "names a root key that was not given: refused as a wrong setting, \
             which during a rotation it is",
        )]),
    ),
    (
        "tenant_secret",
        Authenticated(&[(
            "purpose",
            "the only other one is taken; a key of another purpose does not open, which the \
             seal crate tests",
        )]),
    ),
    ("token", Authenticated(&[])),
    (
        "token_user",
        Authenticated(&[("suspended_time", "for people: it dates a receipt")]),
    ),
    (
        "token_version",
        Authenticated(&[("dead_time", "for people: it dates a receipt")]),
    ),
    ("workload", Authenticated(&[])),
];

/// Columns by which a row is looked up: changed, the row is gone from here, and
/// wherever it lands it does not fit. Nothing is left that could be recorded.
const MOVES_AWAY: [(&str, &str); 6] = [
    ("consumer", "tenant_id"),
    ("consumer", "token_id"),
    ("token", "tenant_id"),
    ("token_user", "tenant_id"),
    ("workload", "tenant_id"),
    ("workload", "user_uid"),
];

/// Some other value of the same column that the schema allows.
fn another(column: &str, data_type: &str) -> String {
    match (column, data_type) {
        ("role", _) => "'Chief'".to_owned(),
        ("access", _) => "'WithSession'".to_owned(),
        ("deletion_policy", _) => "'Shred'".to_owned(),
        ("state", _) => "'Dead'".to_owned(),
        ("origin", _) => "'Generate'".to_owned(),
        ("shard", _) => "(shard + 1) % 16".to_owned(),
        (_, "uuid") => "gen_random_uuid()".to_owned(),
        (_, "text") => format!("coalesce({column}, '') || 'x'"),
        (_, "boolean") => format!("not {column}"),
        (_, "integer" | "bigint") => format!("{column} + 1"),
        (_, "timestamp with time zone") => format!("coalesce({column}, now()) + interval '1 day'"),
        (_, "ARRAY") => format!("coalesce({column}, '{{}}') || array['x']"),
        (_, "bytea") => {
            let last = format!("octet_length({column}) - 1");
            format!("set_byte({column}, {last}, get_byte({column}, {last}) # 1)")
        }
        (_, other) => panic!("say how to change column {column} of type {other}"),
    }
}

async fn columns(fixture: &Fixture, table: &str) -> Vec<(String, String)> {
    sqlx::query_as(
        "select column_name::text, data_type::text from information_schema.columns
         where table_schema = 'public' and table_name = $1 order by ordinal_position",
    )
    .bind(table)
    .fetch_all(&fixture.sql)
    .await
    .unwrap()
}

/// Changes every deciding column of a table, each in a tenant of its own.
async fn each_column(table: &str) {
    let fixture = fixture_with(table).await;
    let neighbour = Team::new(&fixture, "neighbour").await;
    let exempt = TABLES
        .iter()
        .find(|(name, _)| *name == table)
        .map(|(_, kind)| kind)
        .unwrap();
    let Authenticated(exempt) = exempt else {
        panic!("{table} is not authenticated")
    };
    let per_tenant = ["tenant", "tenant_key", "tenant_secret"].contains(&table);

    // Knows no key of the tenants below before their rows are changed.
    let restarted = fixture.restarted().await;
    let controllers = &restarted.controllers(fixture.controllers.term());
    let columns = columns(&fixture, table).await;
    for (column, data_type) in &columns {
        if exempt.iter().any(|(name, _)| name == column) {
            continue;
        }
        let case = format!("{table}.{column}");
        let team = Team::new(&fixture, &case.replace(['_', '.'], "-")).await;
        let before = records(&fixture).await.len();
        let change = format!(
            "update {table} set {column} = {} where {} returning *",
            another(column, data_type),
            team.row(table),
        );
        if per_tenant {
            assert_eq!(fixture.tamper(&change).await, 1, "{case}");
        } else {
            let keys = team.tenant.keys();
            let others = format!(
                "select * from {table} where tenant_id = '{}'",
                team.tenant.id()
            );
            let all = authentic(&fixture, table, others.clone(), keys).await.len();
            assert_eq!(
                authentic(&fixture, table, change, keys).await,
                [false],
                "{case}"
            );
            let fit = authentic(&fixture, table, others, keys).await;
            assert_eq!(
                fit.into_iter().filter(|fits| *fits).count(),
                all - 1,
                "{case}"
            );
        }

        // Neighbours first: they find nothing, and nothing is found on them.
        let bo = (&neighbour.bo, &neighbour.slack);
        assert_eq!(
            neighbour.apply(controllers, bo).await.unwrap(),
            Serving::Serving,
            "{case}"
        );
        if !per_tenant {
            let bo = (&team.bo, &team.slack);
            assert_eq!(
                team.apply(controllers, bo).await.unwrap(),
                Serving::Serving,
                "{case}"
            );
        }
        assert_eq!(
            records(&fixture).await.len(),
            before,
            "{case}: found on a neighbour"
        );

        // Then ana, twice: the second time there is nothing new to record.
        let ana = (&team.ana, &team.github);
        let mut results = Vec::new();
        for _ in 0..2 {
            results.push(team.apply(controllers, ana).await);
        }
        let found = records(&fixture).await.split_off(before);
        let moved = MOVES_AWAY.contains(&(table, column.as_str()));
        assert_eq!(
            found.len(),
            usize::from(!moved),
            "{case}: {found:?} {results:?}"
        );
        if per_tenant {
            for result in results {
                assert!(
                    matches!(result, Err(VaultError::Integrity(_))),
                    "{case}: {result:?}"
                );
            }
        } else {
            assert!(found.iter().all(|name| name == table), "{case}: {found:?}");
        }
    }
}

#[tokio::test]
async fn every_table_is_dealt_with() {
    let fixture = fixture_with("all_tables").await;
    let there: BTreeSet<String> = fixture.tables().await.into_iter().collect();
    let known: BTreeSet<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(there, known);
    for (table, kind) in TABLES {
        let columns = columns(&fixture, table).await;
        let has = |name: &str| columns.iter().any(|(column, _)| column == name);
        match kind {
            Authenticated(exempt) => {
                assert!(
                    exempt
                        .iter()
                        .all(|(name, why)| has(name) && !why.is_empty()),
                    "{table}"
                );
            }
            Plain(why) => assert!(!why.is_empty(), "{table}"),
        }
    }
}

#[tokio::test]
async fn each_column_of_a_tenant_is_authentic_or_denied() {
    each_column("tenant").await;
}

#[tokio::test]
async fn each_column_of_a_tenant_key_is_authentic_or_denied() {
    each_column("tenant_key").await;
}

#[tokio::test]
async fn each_column_of_a_tenant_secret_is_authentic_or_denied() {
    each_column("tenant_secret").await;
}

#[tokio::test]
async fn each_column_of_a_user_is_authentic_or_denied() {
    each_column("token_user").await;
}

#[tokio::test]
async fn each_column_of_a_workload_is_authentic_or_denied() {
    each_column("workload").await;
}

#[tokio::test]
async fn each_column_of_a_token_is_authentic_or_denied() {
    each_column("token").await;
}

#[tokio::test]
async fn each_column_of_a_consumer_is_authentic_or_denied() {
    each_column("consumer").await;
}

#[tokio::test]
async fn each_column_of_a_version_is_authentic_or_denied() {
    each_column("token_version").await;
}
