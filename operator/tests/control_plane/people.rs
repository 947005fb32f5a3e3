//! What people ask the vault, and who may.

use bursar_cli::CliError;
use bursar_crds::reasons::ConditionType;
use bursar_crds::{StoredToken, TokenQuota};
use bursar_testbed::until;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::attach::with_pod;
use crate::broker::Broker;
use crate::cli::code;
use crate::logs::{PLANTED, is_leak, revocations};
use crate::operator::{LIMIT, PAUSE};
use crate::team::Team;

/// The decision_id of a refusal that is on record.
const REFUSED: &str = "0123456789abcdef0123456789abcdef";
/// One that is not.
pub(crate) const ABSENT: &str = "ffffffffffffffffffffffffffffffff";

/// A team with a token in use, and the service accounts for people.
pub(crate) async fn with_token() -> Team {
    let team = with_pod().await;
    team.secret("github", &format!("{PLANTED}value")).await;
    team.token("github", "ana").await;
    team.serving("github", 1).await;
    team.bind("bursar-auditor", "bursar-auditor").await;
    team.bind("bursar-revoker", "bursar-revoker").await;
    team
}

pub(crate) async fn database(team: &Team) -> PgPool {
    PgPool::connect(&team.operator.database.superuser_url)
        .await
        .unwrap()
}

fn lines(jsonl: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap();
    jsonl.lines().map(parse).collect()
}

/// That member of each record.
fn lines_of(jsonl: &str, member: &str) -> Vec<String> {
    let text = |record: Value| record[member].as_str().unwrap().to_owned();
    lines(jsonl).into_iter().map(text).collect()
}

#[tokio::test]
async fn a_person_revokes_beside_the_spec_and_sees_who_gave_it_back() {
    let team = with_token().await;
    let mut broker = Broker::attached(&team).await;
    let granted = broker.granted("ana", "github").await;
    let spec = team.get::<StoredToken>("github").await.unwrap().spec;

    let wait = async {
        let revoke = ["revoke", "github", "--wait", "--timeout", "60s"];
        // Not told at the end only: without it the other side waits in vain.
        team.bursar(&revoke).await.unwrap()
    };
    let give_back = async {
        let revoked = "False RevokedByAPI";
        team.wait::<StoredToken>("github", ConditionType::Usable, revoked)
            .await;
        broker.close(granted).await;
    };
    let (printed, ()) = tokio::join!(wait, give_back);
    assert!(printed.success, "{}", printed.out);
    for part in [
        "all versions up to 1 are revoked",
        "confirmed      1 broker\n",
        "not confirmed  none\n",
        "last serve     none on record\n",
        "took ",
    ] {
        assert!(printed.out.contains(part), "{part}: {}", printed.out);
    }

    let token = team.get::<StoredToken>("github").await.unwrap();
    assert_eq!(json!(token.spec), json!(spec), "the spec was edited");
    // Applied again as it was, it stays revoked; a new value is a new version.
    team.token("github", "ana").await;
    team.secret("github", &format!("{PLANTED}other")).await;
    team.serving("github", 2).await;

    let audit = team
        .bursar(&["audit", "--outcome", "Revoked", "-o", "jsonl"])
        .await;
    let out = audit.unwrap().out;
    let [revoked] = lines(&out).try_into().unwrap();
    assert_eq!(revoked["token"], "github");
    assert_eq!(revoked["version"], 1);
    assert_eq!(revoked["person"], "testbed-administrator");
    let account = format!("{}/bursar-revoker", team.namespace);
    assert_eq!(revoked["service_account_name"], account);
    assert!(!is_leak(&out) && !is_leak(&printed.out));
    let [line] = revocations(&team.namespace).try_into().unwrap();
    assert!(line.contains(&format!("account=\"{account}\"")), "{line}");
}

#[tokio::test]
async fn who_revokes_a_generated_token_is_told_that_another_version_comes_in_its_place() {
    let team = with_token().await;
    let source = json!({ "source": { "generate": {} } });
    team.token_with("key", "ana", source).await;
    team.serving("key", 1).await;
    let revoke = async |token| team.bursar(&["revoke", token, "--wait"]).await.unwrap().out;
    let out = revoke("key").await;
    for part in [
        "a new version is made in its place and served; to stop that, suspend its user or delete",
        "in its place   a new version, generated",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    team.serving("key", 2).await;
    let out = revoke("github").await;
    assert!(!out.contains("in its place"), "{out}");
}

#[tokio::test]
async fn a_revocation_that_is_not_complete_in_time_is_a_failure() {
    let team = with_token().await;
    let mut broker = Broker::attached(&team).await;
    let _kept = broker.granted("ana", "github").await;
    let printed = team
        .bursar(&["revoke", "github", "--wait", "--timeout", "1s"])
        .await
        .unwrap();
    assert!(!printed.success);
    assert!(
        printed.out.contains("still open     1 broker\n"),
        "{}",
        printed.out
    );
    let again = ["revoke", "github", "--wait", "--timeout", "1s"];
    assert!(!team.bursar_unread(&again).await.unwrap());
    // Without --wait nothing is waited for.
    let again = team
        .bursar(&["revoke", "github", "--through-version", "1"])
        .await;
    let again = again.unwrap();
    assert!(
        again.success && again.out.contains("as they were before"),
        "{}",
        again.out
    );
    let beyond = team
        .bursar(&["revoke", "github", "--through-version", "2"])
        .await;
    assert_eq!(code(beyond), "NoVersion");
    assert_eq!(
        code(team.bursar(&["revoke", "slack"]).await),
        "TokenNotFound"
    );
}

#[tokio::test]
async fn the_audit_says_who_did_what_and_every_query_is_on_record() {
    let team = with_token().await;
    team.bursar(&["revoke", "github"]).await.unwrap();
    for (filter, found) in [
        (vec!["--user", "ana"], 1),
        (vec!["--user", "bo"], 0),
        (vec!["--token", "github", "--purpose", "revoke"], 1),
        (
            vec!["--since", "2026-01-01T00:00:00Z", "--outcome", "Revoked"],
            1,
        ),
        (vec!["--until", "2026-01-01T00:00:00Z"], 0),
    ] {
        let args = [vec!["audit", "-o", "json"], filter.clone()].concat();
        let printed = team.bursar(&args).await.unwrap();
        let records: Vec<Value> = serde_json::from_str(&printed.out).unwrap();
        assert_eq!(records.len(), found, "{filter:?}: {}", printed.out);
    }
    let queries = team
        .bursar(&["audit", "--outcome", "Queried", "-o", "jsonl"])
        .await;
    let queries = queries.unwrap().out;
    assert_eq!(
        lines_of(&queries, "purpose"),
        [
            "audit user",
            "audit user",
            "audit token purpose",
            "audit outcome since",
            "audit until",
        ]
    );
    let table = team.bursar(&["audit", "--limit", "2"]).await.unwrap().out;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 120),
        "{table}"
    );
    assert!(!is_leak(&table) && !is_leak(&queries));
}

#[tokio::test]
async fn an_export_has_more_than_one_page_and_each_record_once() {
    let team = with_token().await;
    let tenant = tenant(&team).await;
    sqlx::query(
        "insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
             service_account_name, app_name, purpose, count, first_time, last_time,
             secret_version, mac)
         select $1, gen_random_uuid(), 1, now() - interval '1 minute', 'Served', 'app', 'a', 'p',
                n, now(), now(), 1, sha256('')
         from generate_series(1, 2500) as n",
    )
    .bind(tenant)
    .execute(&database(&team).await)
    .await
    .unwrap();
    let out = team.bursar(&["audit", "--app", "a", "-o", "jsonl"]).await;
    let mut counts: Vec<i64> = lines(&out.unwrap().out)
        .iter()
        .map(|record| record["count"].as_i64().unwrap())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=2_500).collect::<Vec<_>>());
    let newest = team
        .bursar(&["audit", "--app", "a", "--limit", "1200", "-o", "json"])
        .await;
    let newest: Vec<Value> = serde_json::from_str(&newest.unwrap().out).unwrap();
    assert_eq!(newest.len(), 1_200);
}

pub(crate) async fn tenant(team: &Team) -> uuid::Uuid {
    sqlx::query_scalar("select tenant_id from tenant where namespace = $1")
        .bind(&team.namespace)
        .fetch_one(&database(team).await)
        .await
        .unwrap()
}

/// Changes what is on record of a revocation, as who owns the tables can.
pub(crate) async fn change_record(team: &Team) {
    let changed = "update access_record set person = 'somebody-else'
                   where tenant_id = $1 and outcome = 'Revoked'";
    let rows = sqlx::query(changed)
        .bind(tenant(team).await)
        .execute(&database(team).await)
        .await
        .unwrap();
    assert_eq!(rows.rows_affected(), 1);
}

#[tokio::test]
async fn why_tells_of_one_refused_request_in_sentences() {
    let team = with_token().await;
    sqlx::query(
        "insert into access_record (tenant_id, chain_id, record_no, recorded_time, outcome,
             service_account_name, app_name, purpose, count, first_time, last_time, decision_id,
             code, reason, user_name, token_name, secret_version, mac)
         values ($1, gen_random_uuid(), 1, now(), 'Denied', 'other', 'sync', 'nightly', 1, now(),
                 now(), '0123456789abcdef0123456789abcdef', 'Forbidden', 'WorkloadNotListed', 'ana', 'github', 1, sha256(''))",
    )
    .bind(tenant(&team).await)
    .execute(&database(&team).await)
    .await
    .unwrap();
    let told = team.bursar(&["why", REFUSED]).await.unwrap().out;
    for part in [
        "service account other",
        "token github of user ana",
        "Forbidden",
        "WorkloadNotListed",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let absent = team.bursar(&["why", ABSENT]).await;
    let Err(CliError::Refused(problem)) = absent else {
        panic!("there is no such decision");
    };
    assert_eq!(problem.code, "DenialNotFound");
    assert!(problem.detail.contains("256"), "{}", problem.detail);
    let wrong = team.bursar(&["why", "d-1"]).await;
    assert!(matches!(wrong, Err(CliError::Usage(_))));
}

#[tokio::test]
async fn who_used_how_much_of_a_quota_is_told_in_columns_and_as_json_and_put_on_record() {
    let team = with_token().await;
    team.user("bo").await;
    let none = team.bursar(&["quotas"]).await.unwrap();
    assert!(none.success && none.out.is_empty(), "{}", none.out);
    team.quota("each", json!({ "subject": { "each": "User" } }))
        .await;
    let uploads = json!({
        "subject": { "userRef": { "name": "bo" } },
        "counter": "uploads",
        "window": { "type": "Period", "period": "36h" },
    });
    team.quota("uploads", uploads).await;
    for name in ["each", "uploads"] {
        team.wait::<TokenQuota>(name, ConditionType::Usable, "True Within")
            .await;
    }
    let mut broker = Broker::attached(&team).await;
    let granted = broker.granted("ana", "github").await;
    broker.serve(&granted, 1).await;
    let units = u64::from(granted.units);

    let printed = team.bursar(&["quotas", "-o", "json"]).await.unwrap();
    let told: Vec<Value> = serde_json::from_str(&printed.out).unwrap();
    let [each, uploads] = told.as_slice() else {
        panic!("{}", printed.out);
    };
    assert_eq!(each["user"], "ana");
    assert_eq!(each["used"], units);
    assert_eq!(each["held"], units - 1);
    assert_eq!(each["remaining"], 10 - units);
    assert_eq!(uploads["used"], 0);
    assert_eq!(
        uploads["window"],
        json!({ "type": "Period", "period_seconds": 129_600 })
    );

    let table = team.bursar(&["quotas", "--user", "bo"]).await.unwrap().out;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [header, each, uploads] = lines.as_slice() else {
        panic!("{table}");
    };
    assert_eq!(header[..3], ["NAME", "SUBJECT", "USER"]);
    assert_eq!(
        each.join(" "),
        "each each user bo accesses 0 0 10 Enforce Lifetime"
    );
    assert!(
        uploads
            .join(" ")
            .starts_with("uploads user/bo bo uploads 0 0 10 Enforce 36h 20"),
        "{table}"
    );

    let queries = team
        .bursar(&["audit", "--outcome", "Queried", "-o", "jsonl"])
        .await;
    let queries = lines_of(&queries.unwrap().out, "purpose");
    assert_eq!(queries, ["quotas", "quotas", "quotas user"]);
    let absent = team
        .bursar(&["quotas", "nope", "-o", "json"])
        .await
        .unwrap();
    assert_eq!((absent.out.trim(), absent.success), ("[]", false));
    let wrong = team.bursar(&["quotas", "--user", "Bo"]).await;
    assert_eq!(code(wrong), "InvalidRequest");
}

#[tokio::test]
async fn a_quota_that_somebody_changed_in_the_database_is_a_failure_of_the_command() {
    let team = with_token().await;
    team.quota("each", json!({ "subject": { "each": "User" } }))
        .await;
    team.wait::<TokenQuota>("each", ConditionType::Usable, "True Within")
        .await;
    let database = database(&team).await;
    // Again, should the controllers have mended it meanwhile.
    let failed = until(LIMIT, PAUSE, async || {
        sqlx::query(
            "update quota set units = 7 where tenant_id in
                 (select tenant_id from tenant where namespace = $1)",
        )
        .bind(&team.namespace)
        .execute(&database)
        .await
        .unwrap();
        let printed = team.bursar(&["quotas", "-o", "json"]).await.unwrap();
        (!printed.success).then_some(printed.out)
    });
    assert_eq!(failed.await.unwrap().trim(), "[]");
}

#[tokio::test]
async fn without_the_right_nothing_is_told_and_nothing_is_there_looks_the_same() {
    let team = with_token().await;
    team.testbed
        .create_service_account(&team.namespace, "nobody")
        .await
        .unwrap();
    for args in [
        vec!["audit"],
        vec!["quotas"],
        vec!["why", ABSENT],
        vec!["revoke", "github"],
    ] {
        let args = [args, vec!["--service-account", "nobody"]].concat();
        assert_eq!(code(team.bursar(&args).await), "Forbidden", "{args:?}");
    }
    // To read is not to revoke, and the other way round.
    team.bind("reader", "bursar-auditor").await;
    team.bind("ender", "bursar-revoker").await;
    let as_reader = ["--service-account", "reader"];
    assert!(team.bursar_as(&as_reader, &["audit"]).await.is_ok());
    assert_eq!(
        code(team.bursar_as(&as_reader, &["revoke", "github"]).await),
        "Forbidden"
    );
    let as_ender = ["--service-account", "ender"];
    for read in ["audit", "quotas"] {
        assert_eq!(
            code(team.bursar_as(&as_ender, &[read]).await),
            "Forbidden",
            "{read}"
        );
    }
    assert!(
        team.bursar_as(&as_ender, &["revoke", "github"])
            .await
            .is_ok()
    );

    // An account of another namespace has no right here, and an absent namespace looks the same.
    let other = with_token().await;
    let token = team.token_of("bursar-auditor", "bursar-cli").await;
    let headers = [("Bursar-Token", token.as_str()), ("Bursar-Person", "ana")];
    let at = |namespace: &str| format!("GET /v1/namespaces/{namespace}/denials/{ABSENT}");
    let (status, elsewhere) = team.ask(&at(&other.namespace), &headers, "").await;
    assert_eq!(status, 403);
    let (status, absent) = team.ask(&at("absent"), &headers, "").await;
    assert_eq!(status, 403);
    let words = |problem: Value, namespace: &str| problem.to_string().replace(namespace, "N");
    assert_eq!(words(elsewhere, &other.namespace), words(absent, "absent"));
}

impl Team {
    async fn bursar_as(
        &self,
        who: &[&str],
        args: &[&str],
    ) -> Result<crate::cli::Printed, CliError> {
        self.bursar(&[args, who].concat()).await
    }
}

#[tokio::test]
async fn only_a_token_for_this_service_is_one() {
    let team = with_token().await;
    let path = format!("GET /v1/namespaces/{}/denials/{ABSENT}", team.namespace);
    let good = team.token_of("bursar-auditor", "bursar-cli").await;
    let person = ("Bursar-Person", "ana");
    let status = async |headers: &[(&str, &str)]| team.ask(&path, headers, "").await.0;
    assert_eq!(status(&[("Bursar-Token", &good), person]).await, 404);
    assert_eq!(status(&[person]).await, 401);
    assert_eq!(
        status(&[("Authorization", &format!("Bearer {good}")), person]).await,
        401
    );
    assert_eq!(status(&[("Bursar-Token", &good)]).await, 400);

    // A credential for the API server itself, as a kubeconfig has it; one for the broker; one of
    // nobody; and one whose last character was changed.
    let kubeconfig = team
        .testbed
        .kubeconfig_for_service_account(&team.namespace, "bursar-auditor")
        .await
        .unwrap();
    let of_kubeconfig = std::fs::read_to_string(kubeconfig.with_extension("token")).unwrap();
    let of_workload = team.token_of("bursar-auditor", "bursar").await;
    let mut changed = good.clone();
    let last = if changed.ends_with('A') { 'B' } else { 'A' };
    changed.replace_range(20..21, &last.to_string());
    for token in [of_kubeconfig.as_str(), &of_workload, "a.b.c", &changed] {
        let refused = status(&[("Bursar-Token", token), person]).await;
        assert_eq!(refused, 401);
    }

    // One of an account that is gone, as soon as the API server says so.
    let accounts = team.api::<ServiceAccount>();
    let before = accounts.get("bursar-auditor").await.unwrap().uid();
    accounts
        .delete("bursar-auditor", &DeleteParams::default())
        .await
        .unwrap();
    team.testbed
        .create_service_account(&team.namespace, "bursar-auditor")
        .await
        .unwrap();
    assert_ne!(accounts.get("bursar-auditor").await.unwrap().uid(), before);
    let refused = until(LIMIT, PAUSE, async || {
        (status(&[("Bursar-Token", &good), person]).await == 401).then_some(())
    });
    assert!(refused.await.is_some());
}

#[tokio::test]
async fn a_body_or_a_path_that_is_not_understood_is_not_quoted() {
    let team = with_token().await;
    let token = team.token_of("bursar-auditor", "bursar-cli").await;
    let headers = [("Bursar-Token", token.as_str()), ("Bursar-Person", "ana")];
    let query = format!("POST /v1/namespaces/{}/accessrecords/query", team.namespace);
    for body in [
        "",
        "[]",
        r#"{"planted-field":1}"#,
        r#"{"limit":0}"#,
        r#"{"outcome":"planted-x"}"#,
    ] {
        let (status, problem) = team.ask(&query, &headers, body).await;
        assert_eq!(status, 400, "{body}");
        assert!(!is_leak(&problem.to_string()), "{problem}");
    }
    let long = format!(r#"{{"user":"{}"}}"#, "a".repeat(5_000));
    assert_eq!(team.ask(&query, &headers, &long).await.0, 400);
    let with_parameters = format!("{query}?user=ana");
    assert_eq!(team.ask(&with_parameters, &headers, "{}").await.0, 400);
}
