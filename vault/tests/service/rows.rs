//! Rows changed by SQL while the vault runs: never a granted answer, one record
//! for each, and no harm to the neighbours.

use bursar_vault::rows::Subject;
use bursar_wire::v1alpha1::grant_response::Answer;
use tonic::Code;

use crate::support::broker::Broker;
use crate::support::replica::Replica;
use crate::support::{Bed, Team, consumer, quota, token, user};

/// A column of one of ana's rows, and what it is changed to.
const TAMPERED: [(&str, &str, &str); 66] = [
    ("tenant", "shard", "(shard + 1) % 16"),
    ("tenant", "cluster_id", "'cluster-2'"),
    ("tenant", "namespace", "'elsewhere'"),
    ("tenant", "namespace_uid", "'another-life'"),
    ("tenant", "retired_time", "now()"),
    ("tenant", "key_version", "2"),
    ("tenant", "mac", "sha256(mac)"),
    ("token_user", "user_uid", "gen_random_uuid()"),
    ("token_user", "name", "'eve'"),
    ("token_user", "email", "'eve@example.org'"),
    ("token_user", "role", "'Admin'"),
    ("token_user", "suspended", "true"),
    ("token_user", "epoch", "epoch + 1"),
    ("token_user", "deleted_time", "now()"),
    ("token_user", "key_version", "2"),
    ("token_user", "mac", "sha256(mac)"),
    (
        "workload",
        "user_uid",
        "(select user_uid from token_user where name = 'di')",
    ),
    ("workload", "service_account_name", "'other'"),
    ("workload", "key_version", "2"),
    ("workload", "mac", "sha256(mac)"),
    ("token", "token_id", "gen_random_uuid()"),
    ("token", "name", "'other'"),
    (
        "token",
        "user_uid",
        "(select user_uid from token_user where name = 'bo')",
    ),
    ("token", "provider", "'attacker'"),
    ("token", "expiration_time", "null"),
    ("token", "narrowed", "false"),
    ("token", "through_version", "1"),
    ("token", "api_through_version", "1"),
    ("token", "newest_version", "1"),
    ("token", "deletion_policy", "'Shred'"),
    ("token", "epoch", "epoch + 1"),
    ("token", "deleted_time", "now()"),
    ("token", "key_version", "2"),
    ("token", "mac", "sha256(mac)"),
    (
        "consumer",
        "token_id",
        "(select token_id from token where name = 'pager')",
    ),
    ("consumer", "service_account_name", "'another'"),
    ("consumer", "purposes", "null"),
    ("consumer", "key_version", "2"),
    ("consumer", "mac", "sha256(mac)"),
    (
        "token_version",
        "token_id",
        "(select token_id from token where name = 'slack')",
    ),
    ("token_version", "version", "7"),
    ("token_version", "state", "'Dead'"),
    ("token_version", "origin", "'Generate'"),
    ("token_version", "secret_version", "2"),
    ("token_version", "fingerprint", "sha256(fingerprint)"),
    ("token_version", "version_time", "now() + interval '1 day'"),
    ("token_version", "shred_time", "now() + interval '1 day'"),
    ("token_version", "wrapped_key", "substr(wrapped_key, 2)"),
    ("token_version", "ciphertext", "substr(ciphertext, 2)"),
    ("token_version", "key_version", "2"),
    ("token_version", "mac", "sha256(mac)"),
    ("quota", "quota_id", "gen_random_uuid()"),
    ("quota", "name", "'another'"),
    ("quota", "subject_kind", "'Token'"),
    (
        "quota",
        "subject",
        "(select user_uid::text from token_user where name = 'bo')",
    ),
    ("quota", "counter", "'uploads'"),
    ("quota", "units", "units + 1"),
    ("quota", "period_s", "3600"),
    ("quota", "enforcement", "'Warn'"),
    ("quota", "epoch", "epoch + 1"),
    ("quota", "key_version", "2"),
    ("quota", "mac", "sha256(mac)"),
    ("quota_set", "quota_ids", "'{}'"),
    ("quota_set", "epoch", "epoch + 1"),
    ("quota_set", "key_version", "2"),
    ("quota_set", "mac", "sha256(mac)"),
];

/// A column of a broker's incarnation, and what it is changed to.
const TAMPERED_INCARNATION: [(&str, &str); 7] = [
    ("pod_uid", "'other'"),
    ("pod_name", "'other'"),
    ("service_account_name", "'other'"),
    ("service_account_uid", "'other'"),
    ("review_due_time", "review_due_time + interval '1 second'"),
    ("key_version", "2"),
    ("mac", "sha256(mac)"),
];

/// Columns of authenticated tables that are changed nowhere here. `tenant_id` is
/// another: with it a row is gone from where it is looked for.
const NOT_TAMPERED: [(&str, &str, &str); 23] = [
    ("tenant", "created_time", "for people"),
    (
        "token_user",
        "suspended_time",
        "for people: it dates a receipt",
    ),
    (
        "token_version",
        "dead_time",
        "for people: it dates a receipt",
    ),
    ("workload", "access", "the schema allows one value"),
    ("incarnation", "incarnation_id", "found by it"),
    ("incarnation", "attached_time", "for people"),
    ("incarnation", "reviewed_time", "for people"),
    (
        "incarnation",
        "unreviewed_time",
        "it only keeps the row from being ended",
    ),
    (
        "incarnation",
        "fenced_time",
        "not under the MAC: see its module",
    ),
    ("incarnation", "last_report_seq", "moves with each report"),
    (
        "incarnation",
        "last_report_digest",
        "moves with each report",
    ),
    ("incarnation", "last_request_no", "moves with each request"),
    ("incarnation", "last_allowance_id", "tested by itself"),
    ("idempotency_key", "user_uid", "see own_counters/rows"),
    ("idempotency_key", "service_account_name", "there"),
    ("idempotency_key", "counter", "there"),
    ("idempotency_key", "idempotency_key", "there"),
    ("idempotency_key", "operation", "there"),
    ("idempotency_key", "amount", "there"),
    ("idempotency_key", "counted_time", "there"),
    ("idempotency_key", "answer", "there"),
    ("idempotency_key", "key_version", "there"),
    ("idempotency_key", "mac", "there"),
];

/// `ana` has the narrowed token `github` at version 2; others have theirs.
struct Scene {
    bed: Bed,
    replica: Replica,
    broker: Broker,
    neighbour: Broker,
    team: Team,
}

impl Scene {
    async fn new(hint: &str) -> Self {
        let bed = Bed::new(hint).await;
        let replica = bed.replica().await;
        let (team, other) = (bed.team("team").await, bed.team("other").await);
        let ana = bed.user(&team, "ana").await;
        let mut github = token("github", &ana);
        github.consumers = Some(vec![consumer("app", Some(&["sync"]))]);
        github.expiration_time = Some("2100-01-01T00:00:00Z".parse().unwrap());
        bed.store(&team, &github, "one").await;
        bed.store(&team, &github, "two").await;

        let bo = bed.user(&team, "bo").await;
        bed.token(&team, &bo, "slack").await;
        let mut pager = token("pager", &bo);
        pager.consumers = Some(vec![consumer("other", None)]);
        bed.store(&team, &pager, "p").await;
        let mut di = user("di");
        di.workloads = vec!["other".parse().unwrap()];
        bed.apply_user(&team, &di).await;
        let limit = quota("limit", Subject::User(ana.uid), 1_000_000);
        bed.apply_quota(&team, &limit).await;
        let cy = bed.user(&other, "cy").await;
        bed.token(&other, &cy, "stripe").await;
        Self {
            broker: bed.broker(&replica, &team, "app").await,
            neighbour: bed.broker(&replica, &other, "app").await,
            bed,
            replica,
            team,
        }
    }

    /// Which row of a table is changed.
    fn row(&self, table: &str) -> String {
        let which = match table {
            "tenant" => "true",
            "token_user" => "name = 'ana'",
            "workload" => "user_uid = (select user_uid from token_user where name = 'ana')",
            "token" => "name = 'github'",
            "consumer" => "token_id = (select token_id from token where name = 'github')",
            "token_version" => "version = 2",
            "quota" | "quota_set" => "true",
            other => panic!("{other}"),
        };
        format!("tenant_id = '{}' and {which}", self.team.tenant.id())
    }

    /// Asks for everything the changed row might stand for now or before.
    async fn ask_all(&mut self, what: &str) {
        for user in ["ana", "eve", "bo", "di"] {
            for token in ["github", "other", "pager"] {
                match self.broker.ask(user, Some(token)).await {
                    Ok(Ok(granted)) => panic!("{what}: granted {}", granted.token),
                    Ok(Err(_)) => {}
                    // Without its row the tenant has no keys to say no with.
                    Err(status) => {
                        assert_eq!(status.code(), Code::Internal, "{what}");
                        assert!(what.starts_with("tenant."), "{what}");
                    }
                }
            }
        }
    }

    async fn failures(&self, of: &str) -> i64 {
        let query = format!("select count(*) from integrity_failure where table_name like '{of}'");
        self.bed.count(&query).await
    }
}

#[tokio::test]
async fn every_column_of_an_authenticated_table_is_dealt_with() {
    let bed = Bed::new("rows_columns").await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text from information_schema.columns
         where table_schema = 'public' and column_name <> 'tenant_id'
           and table_name in (select table_name from information_schema.columns
                              where table_schema = 'public' and column_name = 'mac')
           -- Chained: the tests of the audit change each column of theirs.
           and table_name not like 'access_record%'
           and table_name not in ('audit_chain', 'checkpoint', 'checkpoint_head')
         order by 1, 2",
    )
    .fetch_all(&bed.sql)
    .await
    .unwrap();
    let columns = columns.iter().map(|(table, name)| (&**table, &**name));
    let incarnation = TAMPERED_INCARNATION.map(|(column, _)| ("incarnation", column));
    let mut known: Vec<(&str, &str)> = [&TAMPERED[..], &NOT_TAMPERED[..]]
        .concat()
        .into_iter()
        .map(|(table, column, _)| (table, column))
        .chain(incarnation)
        .collect();
    known.sort_unstable();
    assert_eq!(columns.collect::<Vec<_>>(), known);
}

#[tokio::test]
async fn no_deciding_column_can_be_changed_by_sql() {
    let mut scene = Scene::new("rows").await;
    assert_eq!(scene.broker.granted("ana", "github").await.version, 2);
    for (table, column, value) in TAMPERED {
        let what = format!("{table}.{column}");
        let row = scene.row(table);
        scene
            .bed
            .tamper(&format!("create table saved as table {table}"))
            .await;
        let update = format!("update {table} set {column} = {value} where {row}");
        assert_eq!(scene.bed.tamper(&update).await, 1, "{what}");

        // Twice: a row is recorded once, however often it is met.
        scene.ask_all(&what).await;
        scene.ask_all(&what).await;
        assert_eq!(scene.failures("%").await, 1, "{what}");
        // A key that does not exist is missed where it should lie.
        let noted = match column {
            "key_version" if table == "tenant" => "tenant_key",
            _ => table,
        };
        assert_eq!(scene.failures(noted).await, 1, "{what}");
        scene.neighbour.granted("cy", "stripe").await;
        // Whom a damaged quota was about is not known.
        if !["tenant", "quota", "quota_set"].contains(&table) {
            scene.broker.granted("bo", "slack").await;
        }

        // Put back, it is believed again.
        scene.bed.tamper(&format!("delete from {table}")).await;
        scene
            .bed
            .tamper(&format!("insert into {table} table saved"))
            .await;
        scene.bed.tamper("drop table saved").await;
        scene.bed.tamper("delete from integrity_failure").await;
        assert_eq!(
            scene.broker.granted("ana", "github").await.version,
            2,
            "{what}"
        );
    }
    scene.replica.stop().await;
}

#[tokio::test]
async fn an_incarnation_is_who_it_was_when_it_attached() {
    let mut scene = Scene::new("rows_incarnation").await;
    let id = scene.broker.incarnation_uuid();
    for (column, value) in TAMPERED_INCARNATION {
        scene
            .bed
            .tamper("create table saved as table incarnation")
            .await;
        let row = format!("incarnation_id = '{id}'");
        let update = format!("update incarnation set {column} = {value} where {row}");
        assert_eq!(scene.bed.tamper(&update).await, 1);
        let refused = scene.broker.ask("ana", Some("github")).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{column}");
        assert_eq!(scene.failures("incarnation").await, 1, "{column}");
        scene.neighbour.granted("cy", "stripe").await;

        scene.bed.tamper("delete from incarnation").await;
        scene
            .bed
            .tamper("insert into incarnation table saved")
            .await;
        scene.bed.tamper("drop table saved").await;
        scene.bed.tamper("delete from integrity_failure").await;
        scene.neighbour.request_no -= 1;
        scene.broker.granted("ana", "github").await;
        scene.neighbour.granted("cy", "stripe").await;
    }
    scene.replica.stop().await;
}

#[tokio::test]
async fn a_stored_answer_that_was_changed_gives_nothing_away() {
    let mut scene = Scene::new("rows_answer").await;
    let mine = scene.broker.granted("ana", "github").await;
    let theirs = scene.neighbour.granted("cy", "stripe").await;
    let number = scene.broker.request_no;
    // The answer is made to name another's allowance, and the allowance another token.
    let (ours, other) = (&mine.allowance_id, &theirs.allowance_id);
    for (update, to_close) in [
        (
            format!("update incarnation set last_allowance_id = '{other}'"),
            None,
        ),
        (
            format!(
                "update incarnation set last_allowance_id = '{ours}'
                 where last_allowance_id is not null"
            ),
            Some(ours),
        ),
    ] {
        scene.bed.tamper(&update).await;
        let moved = "update allowance set version = 1,
                         token_id = (select token_id from token where name = 'slack')";
        let moved = format!("{moved} where allowance_id = '{ours}'");
        assert_eq!(scene.bed.tamper(&moved).await, 1);
        let answer = scene
            .broker
            .grant_numbered(number, "ana", Some("github"), 1)
            .await;
        // Nothing is granted, and at most what is its own is to be closed.
        match answer.unwrap().answer.unwrap() {
            Answer::AskAgain(again) => {
                assert_eq!(again.close_allowance_id.as_ref(), to_close);
            }
            _ => panic!("{update}: granted or denied"),
        }
    }
    assert_eq!(scene.broker.granted("ana", "github").await.version, 2);
    scene.replica.stop().await;
}
