//! What the API server admits as the window of a TokenQuota.

use bursar_crds::{TokenQuota, Window, WindowError, WindowType};
use kube::Api;
use kube::api::PostParams;

use crate::cluster::{Cluster, message};

fn with_window(window: &str) -> String {
    format!(
        "{{apiVersion: bursar.dev/v1alpha1, kind: TokenQuota, metadata: {{name: ana}}, spec: \
         {{subject: {{userRef: {{name: ana}}}}, counter: accesses, limit: 10, window: {window}}}}}"
    )
}

async fn assert_refused(cluster: &Cluster, window: &str, field: &str, sentence: &str) {
    let message = cluster.apply(&with_window(window)).await.unwrap_err();
    assert!(
        message.contains(&format!("{field}: ")),
        "{window}: {message}"
    );
    assert!(message.contains(sentence), "{window}: {message}");
}

#[tokio::test]
async fn a_window_has_a_period_if_and_only_if_it_says_so() {
    let cluster = Cluster::new().await;
    let sentence = "A window of type Period has a period, for example 24h, and one of type Lifetime \
                    has none.";
    for bad in ["{type: Period}", "{type: Lifetime, period: 24h}"] {
        assert_refused(&cluster, bad, "spec.window", sentence).await;
    }
    let untyped = "{period: 24h}";
    assert_refused(&cluster, untyped, "spec.window.type", "Required value").await;
    let unknown = "{type: Sliding}";
    assert_refused(&cluster, unknown, "spec.window.type", "Unsupported value").await;
    let period = with_window("{type: Period, period: 24h}");
    cluster.apply(&period).await.unwrap();
}

/// A window cannot be changed, so none of these is kept.
#[tokio::test]
async fn the_api_server_and_the_parser_admit_the_same_periods() {
    let cluster = Cluster::new().await;
    let quotas = Api::<TokenQuota>::namespaced(cluster.client.clone(), &cluster.namespace);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let both = async |period: &str| {
        let yaml = with_window("{type: Lifetime}");
        let mut quota: TokenQuota = serde_saphyr::from_str(&yaml).unwrap();
        quota.spec.window = Window {
            type_: WindowType::Period,
            period: Some(period.to_owned()),
        };
        let server = quotas.create(&dry_run, &quota).await.map_err(message);
        (server, quota.spec.window.seconds())
    };
    for (period, seconds) in [
        ("1m", 60),
        ("60s", 60),
        ("60000ms", 60),
        ("59s1000ms", 60),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("30m1h", 5_400),
        ("1h29m59s1000ms", 5_400),
        ("00001h00030m", 5_400),
        ("45m45m", 5_400),
        ("8784h", 31_622_400),
        ("8783h59m59s1000ms", 31_622_400),
    ] {
        let (server, parser) = both(period).await;
        server.unwrap_or_else(|message| panic!("{period}: {message}"));
        assert_eq!(parser, Ok(Some(seconds)), "{period}");
    }
    let sentence = "A period is written in h, m, s and ms, for example 24h or 1h30m, and is whole \
                    seconds: at least 1m and at most 8784h (366 days).";
    let wrong = "|24|h|1d|1w|24H|24 h| 24h|24h\n|-24h|+24h|1.5h|PT24H|60000us|1hm|1h1m1s1s1m|\
                 100000m|0h|59s|59s999ms|60s1ms|8784h1s|8784h1ms|8785h|99999h99999h99999h99999h";
    for period in wrong.split('|') {
        let (server, parser) = both(period).await;
        let refused = server.unwrap_err();
        assert!(
            refused.contains("spec.window.period: "),
            "{period}: {refused}"
        );
        assert!(refused.contains(sentence), "{period}: {refused}");
        assert_eq!(parser, Err(WindowError::Period), "{period}");
    }
    let (server, parser) = both(&"1".repeat(29)).await;
    let refused = server.unwrap_err();
    assert!(
        refused.contains("spec.window.period: Too long"),
        "{refused}"
    );
    assert_eq!(parser, Err(WindowError::Period));
}
