//! What callers are told when they are refused, and what is on record of it.

use std::collections::HashSet;

use serde_json::json;

use crate::bed::consumer;
use crate::support::http::Answer;
use crate::support::issuer::SERVICE_ACCOUNT;
use crate::support::until;
use crate::{MINUTE, with_vault};

#[tokio::test]
async fn why_a_call_was_refused_is_on_record_under_the_id_that_the_caller_was_given() {
    with_vault("why", MINUTE, async |bed, _replica| {
        let mut ana = bed.user("ana").await;
        let mut github = bed.token(&ana, "github", "s3cret").await;
        github.consumers = Some(vec![consumer(SERVICE_ACCOUNT, Some(&["backup"]))]);
        bed.apply_token(&github).await;
        let broker = bed.broker().await;
        let mut refused = Vec::new();
        let mut refuse = |answer: Answer, code: &str, reason: &str| {
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            refused.push((id, code.to_owned(), reason.to_owned()));
        };
        let answer = broker.access("nobody", None).await;
        refuse(answer, "Forbidden", "reason = 'NoSuchUser'");
        let answer = broker.status("nobody").await;
        refuse(answer, "Forbidden", "reason = 'NoSuchUser'");
        let answer = broker.access("ana", Some("github")).await;
        refuse(answer, "Forbidden", "reason = 'PurposeNotListed'");
        let answer = broker.access("Planted-Secret", None).await;
        refuse(
            answer,
            "InvalidRequest",
            "reason is null and user_name is null",
        );
        let recorded = async |(id, code, reason): &(String, String, String)| {
            let query = format!(
                "select count(*) from access_record
                 where outcome = 'Denied' and decision_id = '{id}' and code = '{code}' and {reason}"
            );
            bed.until_count(&query, 1).await;
        };
        for one in &refused {
            recorded(one).await;
        }
        ana.suspended = true;
        bed.apply_user(&ana).await;
        let answer = broker.access("ana", Some("github")).await;
        let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
        // What the broker has not told of by then it tells when it ends.
        broker.drain().await;
        recorded(&(id, "Forbidden".into(), "reason = 'UserSuspended'".into())).await;
        let planted = "select count(*) from access_record r where r::text ilike '%planted%'";
        assert_eq!(bed.count(planted).await, 0);
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_absent_not_listed_suspended_or_narrowed_away_looks_the_same() {
    with_vault("oracles", MINUTE, async |bed, _replica| {
        let open = bed.user("open").await;
        let mut narrowed = bed.token(&open, "narrowed", "s3cret").await;
        narrowed.consumers = Some(vec![consumer("another", None)]);
        bed.apply_token(&narrowed).await;
        let mut purposes = bed.token(&open, "purposes", "s3cret").await;
        purposes.consumers = Some(vec![consumer(SERVICE_ACCOUNT, Some(&["backup"]))]);
        bed.apply_token(&purposes).await;
        let mut suspended = bed.user("suspended").await;
        bed.token(&suspended, "github", "s3cret").await;
        suspended.suspended = true;
        bed.apply_user(&suspended).await;
        let mut unlisted = bed.user("unlisted").await;
        unlisted.workloads = vec!["another".parse().unwrap()];
        bed.apply_user(&unlisted).await;
        bed.token(&unlisted, "slack", "s3cret").await;

        let broker = bed.broker().await;
        assert_eq!(
            broker
                .access_for("open", Some("purposes"), "backup")
                .await
                .status,
            200
        );
        let mut bodies = HashSet::new();
        for (user, token) in [
            ("absent", Some("github")),
            ("absent", None),
            ("suspended", Some("github")),
            ("suspended", None),
            ("unlisted", Some("slack")),
            ("unlisted", Some("absent")),
            ("open", Some("narrowed")),
            ("open", Some("absent")),
            ("open", Some("purposes")),
        ] {
            let answer = broker.access(user, token).await;
            assert_eq!(answer.status, 403, "{user} {token:?}");
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            bodies.insert(String::from_utf8(answer.body).unwrap().replace(&id, ""));
        }
        for user in ["absent", "suspended", "unlisted"] {
            let answer = broker.status(user).await;
            let id = answer.json()["decision_id"].as_str().unwrap().to_owned();
            bodies.insert(String::from_utf8(answer.body).unwrap().replace(&id, ""));
        }
        assert_eq!(bodies.len(), 1, "{bodies:#?}");
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}

#[tokio::test]
async fn the_entitled_are_told_what_is_wrong() {
    with_vault("told", MINUTE, async |bed, _replica| {
        let ana = bed.user("ana").await;
        let broker = bed.broker().await;
        assert_eq!(
            broker.access("ana", Some("absent")).await.code(),
            "TokenNotFound"
        );
        bed.token(&ana, "github", "one").await;
        bed.token(&ana, "slack", "two").await;
        until("the tokens are known", async || {
            broker.access("ana", None).await.code() == "TokenAmbiguous"
        })
        .await;
        assert_eq!(
            broker.access("ana", None).await.json()["tokens"],
            json!(["github", "slack"])
        );
        let status = broker.status("ana").await.json();
        assert_eq!(status["has_token"], true);
        assert_eq!(status["tokens"][0]["name"], "github");
        assert_eq!(status["tokens"][0]["reason"], "Serving");
        assert_eq!(status["tokens"][1]["version"], 1);
        broker.drain().await;
        bed.assert_all_accounted_for().await;
    })
    .await;
}
