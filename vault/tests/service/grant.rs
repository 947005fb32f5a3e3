//! Who is granted what, and that each request is answered with one allowance.

use std::time::Duration;

use bursar_vault::{Clock, SystemClock};
use bursar_wire::v1alpha1::denied::Code;
use bursar_wire::v1alpha1::describe_user_response::Answer;
use bursar_wire::v1alpha1::grant_response;

use crate::support::broker::{Broker, served};
use crate::support::{Bed, consumer, token, user};

#[tokio::test]
async fn a_listed_workload_gets_the_newest_value() {
    let bed = Bed::new("grant_value").await;
    let replica = bed.replica().await;
    let (team, ana, github) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    let first = broker.granted("ana", "github").await;
    assert_eq!(broker.value(&first), "VALUE of github");
    assert_eq!((first.version, first.units), (1, 100));
    assert_eq!(first.provider, "github");
    assert_eq!(first.user_uid, ana.uid.to_string());
    assert!(first.expires_in_ms <= 60_000 && first.expires_in_ms > 0);
    assert_eq!(
        (first.expiration_time_ms, first.purposes.as_ref()),
        (None, None)
    );

    bed.store(&team, &github, "VALUE two").await;
    let second = broker.granted("ana", "github").await;
    assert_eq!(
        (second.version, broker.value(&second).as_str()),
        (2, "VALUE two")
    );
    assert_ne!(first.allowance_id, second.allowance_id);
    replica.stop().await;
}

#[tokio::test]
async fn a_forged_request_for_an_unlisted_user_is_denied_and_recorded() {
    let bed = Bed::new("grant_forged").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut bo = user("bo");
    bo.workloads = vec!["other".parse().unwrap()];
    bed.apply_user(&team, &bo).await;
    bed.token(&team, &bo, "slack").await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    // Not listed, no such user, no such token of an unlisted user: all the same.
    for (user, token) in [
        ("bo", Some("slack")),
        ("bo", None),
        ("nobody", None),
        ("bo", Some("x")),
    ] {
        let denied = broker.ask(user, token).await.unwrap().err().unwrap();
        assert_eq!((denied.code(), denied.tokens.len()), (Code::Forbidden, 0));
    }
    assert!(matches!(broker.describe("bo").await, Ok(Answer::Denied(_))));
    let counted = "select sum(count)::bigint from denial
                   where service_account_name = 'app' and reason = 'Forbidden'";
    assert_eq!(bed.count(counted).await, 5);
    assert_eq!(bed.count("select count(*) from allowance").await, 0);
    assert_eq!(
        replica.metric("bursar_vault_grants_total{answer=\"Forbidden\"}"),
        4
    );
    replica.stop().await;
}

#[tokio::test]
async fn a_pod_of_another_tenant_sees_nothing() {
    let bed = Bed::new("grant_tenant").await;
    let replica = bed.replica().await;
    let (ours, theirs) = (bed.team("ours").await, bed.team("theirs").await);
    let ana = bed.user(&ours, "ana").await;
    bed.token(&ours, &ana, "github").await;
    bed.user(&theirs, "bo").await;

    let mut broker = bed.broker(&replica, &theirs, "app").await;
    assert_eq!(broker.denied("ana", Some("github")).await, Code::Forbidden);
    assert!(matches!(
        broker.describe("ana").await,
        Ok(Answer::Denied(_))
    ));
    // Nor with its own proof under the name of the other tenant.
    let incarnation = broker.incarnation.as_mut().unwrap();
    let own = incarnation.id.split('.').next().unwrap().to_owned();
    incarnation.id = incarnation.id.replace(&own, &ours.tenant.id().to_string());
    let refused = broker.ask("ana", Some("github")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    replica.stop().await;
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let bed = Bed::new("grant_codes").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    // One user with nothing wrong, one with a token narrowed away.
    let ana = bed.user(&team, "ana").await;
    assert_eq!(broker.denied("ana", None).await, Code::TokenNotFound);
    let mut github = bed.token(&team, &ana, "github").await;
    assert!(broker.ask("ana", None).await.unwrap().is_ok());
    assert_eq!(
        broker.denied("ana", Some("gitlab")).await,
        Code::TokenNotFound
    );
    bed.token(&team, &ana, "slack").await;
    let ambiguous = broker.ask("ana", None).await.unwrap().err().unwrap();
    assert_eq!(ambiguous.code(), Code::TokenAmbiguous);
    assert_eq!(ambiguous.tokens, ["github", "slack"]);

    let bo = bed.user(&team, "bo").await;
    let mut secret = token("secret", &bo);
    secret.consumers = Some(vec![consumer("other", None)]);
    bed.store(&team, &secret, "s").await;
    for asked in [Some("secret"), Some("absent"), None] {
        assert_eq!(
            broker.denied("bo", asked).await,
            Code::Forbidden,
            "{asked:?}"
        );
    }

    let mut empty = token("empty", &ana);
    bed.apply(&team, &empty).await;
    assert_eq!(broker.denied("ana", Some("empty")).await, Code::NoVersion);
    empty.expiration_time = Some(SystemClock.now() - Duration::from_secs(1));
    bed.store(&team, &empty, "e").await;
    assert_eq!(broker.denied("ana", Some("empty")).await, Code::Expired);

    github.through_version = Some(1.try_into().unwrap());
    bed.apply(&team, &github).await;
    assert_eq!(broker.denied("ana", Some("github")).await, Code::Revoked);
    bed.store(&team, &github, "a new value").await;
    assert_eq!(broker.granted("ana", "github").await.version, 2);

    let mut suspended = ana.clone();
    suspended.suspended = true;
    bed.apply_user(&team, &suspended).await;
    assert_eq!(broker.denied("ana", Some("github")).await, Code::Forbidden);
    replica.stop().await;
}

#[tokio::test]
async fn a_consumer_is_told_its_purposes() {
    let bed = Bed::new("grant_purposes").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let mut github = token("github", &ana);
    github.consumers = Some(vec![consumer("app", Some(&["sync", "back up"]))]);
    bed.store(&team, &github, "g").await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let granted = broker.granted("ana", "github").await;
    assert_eq!(granted.purposes.unwrap().purposes, ["back up", "sync"]);
    replica.stop().await;
}

#[tokio::test]
async fn a_broker_has_a_bounded_number_of_open_allowances() {
    let bed = Bed::new("grant_open").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let mut other = bed.broker(&replica, &team, "app").await;
    let granted = broker.granted("ana", "github").await;
    let copies = bed
        .tamper(
            "insert into allowance (tenant_id, allowance_id, incarnation_id, user_uid, user_epoch,
                                    token_id, token_epoch, version, service_account_name,
                                    quota_epoch, granted, expires_time)
             select tenant_id, gen_random_uuid(), incarnation_id, user_uid, user_epoch, token_id,
                    token_epoch, version, service_account_name, quota_epoch, granted,
                    expires_time
             from allowance, generate_series(2, 10000)",
        )
        .await;
    assert_eq!(copies, 9_999);
    let refused = broker.ask("ana", Some("github")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    other.granted("ana", "github").await;
    broker
        .report(vec![], vec![granted.allowance_id])
        .await
        .unwrap();
    broker.granted("ana", "github").await;
    replica.stop().await;
}

#[tokio::test]
async fn units_and_lease_are_bounded() {
    let bed = Bed::new("grant_bounds").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let ana = bed.user(&team, "ana").await;
    let mut github = token("github", &ana);
    github.expiration_time = Some(SystemClock.now() + Duration::from_secs(20));
    bed.store(&team, &github, "g").await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    for (want, units) in [(0, 1), (1, 1), (5_000, 5_000), (u32::MAX, 5_000)] {
        let number = broker.request_no + 1;
        let answer = broker.grant_numbered(number, "ana", None, want).await;
        broker.request_no = number;
        match answer.unwrap().answer.unwrap() {
            grant_response::Answer::Granted(granted) => {
                assert_eq!(granted.units, units);
                // The token's end comes before the lease's.
                assert!(granted.expires_in_ms <= 20_000);
                let expires = github.expiration_time.unwrap().as_millisecond();
                assert_eq!(granted.expiration_time_ms, Some(expires));
            }
            _ => panic!("not granted"),
        }
    }
    replica.stop().await;
}

#[tokio::test]
async fn a_request_that_is_asked_again_is_not_granted_twice() {
    let bed = Bed::new("grant_again").await;
    let replica = bed.replica().await;
    let second = bed.replica().await;
    let (team, _, github) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;

    let first = broker.granted("ana", "github").await;
    // The answer was lost; it is asked for at another replica.
    let moved = broker.moved(&second, &bed.authority).await;
    for asked in [&broker, &moved] {
        let answer = asked
            .grant_numbered(1, "ana", Some("github"), 100)
            .await
            .unwrap();
        match answer.answer.unwrap() {
            grant_response::Answer::Granted(again) => {
                assert_eq!(again.allowance_id, first.allowance_id);
                assert!(again.expires_in_ms <= first.expires_in_ms);
                assert_eq!(asked.value(&again), "VALUE of github");
            }
            _ => panic!("not granted"),
        }
    }
    assert_eq!(bed.count("select count(*) from allowance").await, 1);

    // Something changed in between: the broker closes the lost one itself, for only it
    // knows whether the answer was lost.
    bed.store(&team, &github, "VALUE two").await;
    let repeated = async |broker: &Broker, number| {
        let answer = broker.grant_numbered(number, "ana", Some("github"), 100);
        match answer.await.unwrap().answer.unwrap() {
            grant_response::Answer::AskAgain(again) => again.close_allowance_id,
            _ => panic!("granted under an old number"),
        }
    };
    assert_eq!(repeated(&broker, 1).await, Some(first.allowance_id.clone()));
    let open = "select count(*) from allowance where state = 'Open'";
    assert_eq!(bed.count(open).await, 1);
    broker
        .report(vec![served(&first, 1)], vec![first.allowance_id.clone()])
        .await
        .unwrap();
    // A late repetition of what was answered, used and closed grants nothing.
    assert_eq!(repeated(&broker, 1).await, Some(first.allowance_id.clone()));
    assert_eq!(bed.count(open).await, 0);
    assert_eq!(broker.granted("ana", "github").await.version, 2);

    // Nor does that of a request that was denied.
    assert_eq!(broker.denied("bo", None).await, Code::Forbidden);
    let number = broker.request_no;
    let bo = bed.user(&team, "bo").await;
    bed.token(&team, &bo, "slack").await;
    let late = broker.grant_numbered(number, "bo", None, 100).await;
    assert!(matches!(
        late.unwrap().answer.unwrap(),
        grant_response::Answer::AskAgain(again) if again.close_allowance_id.is_none()
    ));
    assert_eq!(bed.count(open).await, 1);

    // Numbers do not leave gaps and do not go back.
    for number in [0, number + 2, 100, u64::MAX] {
        let refused = broker
            .grant_numbered(number, "ana", None, 1)
            .await
            .err()
            .unwrap();
        let malformed = number == 0 || number == u64::MAX;
        let expected = match malformed {
            true => tonic::Code::InvalidArgument,
            false => tonic::Code::FailedPrecondition,
        };
        assert_eq!(refused.code(), expected, "{number}");
    }
    broker.granted("ana", "github").await;
    let refused = broker
        .grant_numbered(1, "ana", None, 1)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    replica.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn names_that_are_none_are_refused_before_anything_is_read() {
    let bed = Bed::new("grant_names").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let broker = bed.broker(&replica, &team, "app").await;
    for (user, token) in [
        ("", None),
        ("ANA", None),
        ("a\0", None),
        ("ana", Some("a\0b")),
    ] {
        let refused = broker
            .grant_numbered(1, user, token, 1)
            .await
            .err()
            .unwrap();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
    replica.stop().await;
}
