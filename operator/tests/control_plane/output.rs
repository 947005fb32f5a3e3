//! What people see with kubectl.

use bursar_crds::reasons::ConditionType::Usable;
use bursar_crds::{StoredToken, TokenUser};
use serde_json::json;

use crate::operator::{kubectl, operator, repository};
use crate::team::Team;

/// The table without its last column, which is an age.
fn without_age(table: &str) -> Vec<Vec<String>> {
    let header = table.lines().next().unwrap();
    let age = header.find("AGE").unwrap();
    let cells = |line: &str| {
        line[..age.min(line.len())]
            .split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    table.lines().map(cells).collect()
}

#[tokio::test]
async fn kubectl_get_shows_each_token_and_user_in_one_line() {
    let team = Team::new().await;
    team.user_with("ana", json!({ "email": "ana@example.org" }))
        .await;
    for name in ["github", "slack", "stripe"] {
        team.secret(name, &format!("planted-{name}")).await;
    }
    let provider = |name: &str| json!({ "provider": name });
    let with = |name: &str, more: serde_json::Value| {
        let mut spec = provider(name);
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    team.token_with(
        "github",
        "ana",
        with(
            "github",
            json!({ "expirationTime": "2099-01-31T00:00:00Z" }),
        ),
    )
    .await;
    team.token_with("slack", "ana", provider("slack")).await;
    team.token_with("stripe", "ana", provider("stripe")).await;
    for name in ["github", "slack", "stripe"] {
        team.serving(name, 1).await;
    }
    let revoked = with("slack", json!({ "revocation": { "throughVersion": 1 } }));
    team.token_with("slack", "ana", revoked).await;
    team.wait::<StoredToken>("slack", Usable, "False RevokedBySpec")
        .await;
    team.remove_secret("stripe").await;
    team.refused("stripe", "SourceNotFound").await;
    team.wait::<TokenUser>("ana", Usable, "True Active").await;

    let tokens = without_age(&kubectl(&["get", "stok", "--namespace", &team.namespace]));
    assert_eq!(
        tokens,
        [
            vec![
                "NAME",
                "READY",
                "USABLE",
                "REASON",
                "USER",
                "PROVIDER",
                "VERSION",
                "EXPIRES",
                "LAST USED"
            ],
            vec![
                "github",
                "True",
                "True",
                "Serving",
                "ana",
                "github",
                "1",
                "2099-01-31T00:00:00Z"
            ],
            vec![
                "slack",
                "True",
                "False",
                "RevokedBySpec",
                "ana",
                "slack",
                "1"
            ],
            vec![
                "stripe",
                "False",
                "True",
                "SourceNotFound",
                "ana",
                "stripe",
                "1"
            ],
        ]
    );
    // What to do, without kubectl describe.
    let wide = kubectl(&["get", "stok", "--namespace", &team.namespace, "-o", "wide"]);
    let mut lines = wide.lines();
    assert!(
        lines.next().unwrap().trim_end().ends_with("AGE   MESSAGE"),
        "{wide}"
    );
    for (line, words) in lines.zip([
        "Version 1 is served to those who may read it.",
        "a new value at the source makes a new version.",
        "Secret stripe does not exist in this namespace: create it",
    ]) {
        assert!(line.contains(words), "no {words:?} in {wide}");
    }
    let users = without_age(&kubectl(&["get", "tuser", "--namespace", &team.namespace]));
    assert_eq!(
        users,
        [
            vec![
                "NAME",
                "READY",
                "USABLE",
                "REASON",
                "EMAIL",
                "ROLE",
                "SUSPENDED"
            ],
            vec![
                "ana",
                "True",
                "True",
                "Active",
                "ana@example.org",
                "Member",
                "false"
            ],
        ]
    );
    let all = kubectl(&["get", "bursar", "--namespace", &team.namespace]);
    assert!(all.contains("storedtoken.bursar.dev/github"), "{all}");
    assert!(all.contains("tokenuser.bursar.dev/ana"), "{all}");
}

#[tokio::test]
async fn every_metric_on_the_page_is_in_the_reference_with_its_type() {
    let operator = operator().await;
    let _in_use = operator.share().await;
    let reference = std::fs::read_to_string(repository("docs/reference.md")).unwrap();
    let page = operator.page("metrics").await.unwrap();
    let types: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert!(
        types
            .iter()
            .any(|(name, _)| name.starts_with("bursar_vault_")),
        "the vault's are on the same page: {types:?}"
    );
    let mut rows = Vec::new();
    for (name, type_) in types {
        let suffix = if type_ == "counter" { "_total" } else { "" };
        let row = format!("| `{name}{suffix}` | {type_} |");
        assert!(reference.contains(&row), "no row {row:?}");
        rows.push(row);
    }
    // And the other way round.
    for line in reference.lines() {
        let of_operator = line.starts_with("| `bursar_") && !line.starts_with("| `bursar_broker_");
        let shown = rows.iter().any(|row| line.starts_with(row));
        assert!(shown || !of_operator, "not on the page: {line}");
    }
}
