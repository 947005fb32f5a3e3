//! Writing a spec is not reading a Secret.

use crate::cluster::Cluster;

/// May write our kinds, and nothing else.
const DEVELOPER: &str = "dev";

fn token(name: &str, secret: &str, key: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: StoredToken, metadata: {{name: {name}}}, \
         spec: {{userRef: {{name: ana}}, provider: github, \
         source: {{secretKeyRef: {{name: {secret}, key: {key}}}}}{rest}}}}}"
    )
}

async fn developer(cluster: &Cluster, rules: &str) -> Cluster {
    cluster
        .allow(DEVELOPER, &["bursar-edit", "bursar-view"], rules)
        .await;
    cluster.as_user(DEVELOPER, &[]).await
}

#[tokio::test]
async fn a_secret_that_the_writer_may_not_get_cannot_be_named() {
    let cluster = Cluster::new().await;
    let developer = developer(&cluster, "[]").await;
    let message = developer
        .refused(&token("github", "payroll", "k", ""))
        .await;
    assert!(
        message.contains("you lack the right to get the Secret \"payroll\""),
        "{message}"
    );
    assert!(message.contains(&cluster.namespace), "{message}");
}

#[tokio::test]
async fn a_token_cannot_be_pointed_at_another_secret_or_key_later() {
    let cluster = Cluster::new().await;
    cluster
        .apply(&token("github", "payroll", "a", ""))
        .await
        .unwrap();
    let developer = developer(&cluster, "[]").await;
    for changed in [
        token("github", "other", "a", ""),
        token("github", "payroll", "b", ""),
    ] {
        let message = developer.refused(&changed).await;
        assert!(
            message.contains("you lack the right to get the Secret"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn everything_else_about_such_a_token_may_be_changed() {
    let cluster = Cluster::new().await;
    cluster
        .apply(&token("github", "payroll", "a", ""))
        .await
        .unwrap();
    let developer = developer(&cluster, "[]").await;
    let expiring = token(
        "github",
        "payroll",
        "a",
        ", expirationTime: '2099-01-01T00:00:00Z'",
    );
    developer.allowed(&expiring).await;
}

#[tokio::test]
async fn a_secret_that_the_writer_may_get_can_be_named_and_only_that_one() {
    let cluster = Cluster::new().await;
    let rules = "[{apiGroups: [''], resources: [secrets], resourceNames: [mine], verbs: [get]}]";
    let developer = developer(&cluster, rules).await;
    developer.allowed(&token("github", "mine", "k", "")).await;
    let message = developer.refused(&token("slack", "payroll", "k", "")).await;
    assert!(message.contains("\"payroll\""), "{message}");
}

#[tokio::test]
async fn listing_secrets_is_not_enough() {
    let cluster = Cluster::new().await;
    let rules = "[{apiGroups: [''], resources: [secrets], verbs: [list, watch]}]";
    let developer = developer(&cluster, rules).await;
    developer
        .refused(&token("github", "payroll", "k", ""))
        .await;
}

#[tokio::test]
async fn a_generated_token_needs_no_right_on_secrets() {
    let cluster = Cluster::new().await;
    let developer = developer(&cluster, "[]").await;
    let yaml = "{apiVersion: bursar.dev/v1alpha1, kind: StoredToken, metadata: {name: slack}, \
                spec: {userRef: {name: ana}, provider: slack, source: {generate: {}}}}";
    developer.allowed(yaml).await;
}
