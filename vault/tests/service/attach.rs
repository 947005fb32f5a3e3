//! Attach: which pod a broker belongs to, and which run of it this is.

use std::time::Duration;

use bursar_vault::service::{ReviewError, ReviewedPod, Settings};
use bursar_wire::v1alpha1::{AttachRequest, Incarnation};
use tonic::Code;

use crate::support::Bed;
use crate::support::broker::{Broker, served};
use crate::support::cluster::{ISSUER, Pod};

/// Settings of a replica with such a period of review, in seconds.
fn reviewed_after(seconds: u64) -> Settings {
    Settings {
        review_period: Duration::from_secs(seconds),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_broker_learns_who_it_is_and_what_holds() {
    let bed = Bed::new("attach").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    let answer = broker.attach(&bed.cluster.token(&pod)).await.unwrap();

    let known = answer.pod.unwrap();
    assert_eq!(known.tenant_id, team.tenant.id().to_string());
    assert_eq!((known.namespace, known.name), ("team".to_owned(), pod.name));
    assert_eq!(
        (known.uid, known.service_account_name),
        (pod.uid, "app".to_owned())
    );
    assert_eq!(
        (answer.protocol, answer.resumed, answer.lease_ms),
        (1, false, 60_000)
    );
    assert_eq!(answer.workload_issuer.unwrap().issuer, ISSUER);
    assert!((150_000..300_000).contains(&answer.attach_again_ms));
    assert_eq!((answer.last_report_seq, answer.last_request_no), (0, 0));
    replica.stop().await;
}

#[tokio::test]
async fn protocol_ranges_must_overlap() {
    let bed = Bed::new("attach_protocol").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let token = bed.cluster.token(&Pod::new(&team, "app"));
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    let mut attach = async |protocol_min, protocol_max| {
        let request = AttachRequest {
            protocol_min,
            protocol_max,
            service_account_token: token.clone(),
            previous: None,
        };
        broker.client.attach(request).await
    };
    let refused = attach(2, 9).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("2 to 9"),
        "{}",
        refused.message()
    );
    assert_eq!(
        attach(0, 0).await.err().unwrap().code(),
        Code::FailedPrecondition
    );
    assert_eq!(attach(1, 9).await.unwrap().into_inner().protocol, 1);
    replica.stop().await;
}

#[tokio::test]
async fn the_api_server_must_vouch_for_the_very_pod_in_the_token() {
    let bed = Bed::new("attach_review").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let changes: [fn(&mut ReviewedPod); 5] = [
        |pod| pod.namespace = "other".into(),
        |pod| pod.pod_name = "other".into(),
        |pod| pod.pod_uid = "other".into(),
        |pod| pod.service_account_name = "other".into(),
        |pod| pod.service_account_uid = "other".into(),
    ];
    let token = bed.cluster.token(&pod);
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    for change in changes {
        let mut reviewed = pod.reviewed();
        change(&mut reviewed);
        bed.cluster.vouch(&token, Ok(reviewed));
        let refused = broker.attach(&token).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    for (answer, code) in [
        (Err(ReviewError::Refused), Code::Unauthenticated),
        (Err(ReviewError::Unavailable), Code::Unavailable),
    ] {
        bed.cluster.vouch(&token, answer);
        assert_eq!(broker.attach(&token).await.err().unwrap().code(), code);
    }
    assert_eq!(bed.count("select count(*) from incarnation").await, 0);
    replica.stop().await;
}

#[tokio::test]
async fn a_namespace_without_a_tenant_is_told_to_apply_a_user() {
    let bed = Bed::new("attach_no_tenant").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let mut pod = Pod::new(&team, "app");
    // The namespace was recreated, and nobody applied anything there yet.
    pod.namespace_uid = "another-life".to_owned();
    let mut broker = Broker::connect(&replica, &bed.authority).await;
    let refused = broker.attach(&bed.cluster.token(&pod)).await.err().unwrap();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("apply a TokenUser"));
    replica.stop().await;
}

#[tokio::test]
async fn a_proven_incarnation_resumes_anywhere_without_a_review() {
    let bed = Bed::new("attach_resume").await;
    let (first, second) = (bed.replica().await, bed.replica().await);
    let (team, ..) = bed.team_with_token().await;
    let pod = Pod::new(&team, "app");
    let mut broker = Broker::connect(&first, &bed.authority).await;
    broker.attach(&bed.cluster.token(&pod)).await.unwrap();
    let before = broker.incarnation.clone();
    broker.granted("ana", "github").await;
    broker.report(vec![], vec![]).await.unwrap();
    assert_eq!(bed.cluster.reviews(), 1);

    let mut moved = broker.moved(&second, &bed.authority).await;
    // A fresh token of the same pod, which no reviewer knows.
    let token = bed.cluster.ec.sign(&pod.claims());
    let answer = moved.attach(&token).await.unwrap();
    assert!(answer.resumed);
    assert!(answer.incarnation == before);
    assert_eq!((answer.last_request_no, answer.last_report_seq), (1, 1));
    assert_eq!(bed.cluster.reviews(), 1);
    moved.granted("ana", "github").await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn nothing_but_its_own_proof_and_pod_resumes_an_incarnation() {
    let bed = Bed::new("attach_proof").await;
    let replica = bed.replica().await;
    let team = bed.team("team").await;
    let victim = bed.broker(&replica, &team, "app").await;
    let stolen = victim.incarnation.clone().unwrap();

    let mut forged = stolen.clone();
    forged.proof[0] ^= 1;
    let unknown = Incarnation {
        id: format!("{}.{}", team.tenant.id(), team.tenant.id()),
        proof: stolen.proof.clone(),
    };
    let nonsense = Incarnation {
        id: "nonsense".to_owned(),
        proof: vec![],
    };
    for previous in [forged, unknown, nonsense, stolen.clone()] {
        // Another pod of the same service account.
        let mut thief = Broker::connect(&replica, &bed.authority).await;
        thief.incarnation = Some(previous);
        let token = bed.cluster.token(&Pod::new(&team, "app"));
        let answer = thief.attach(&token).await.unwrap();
        assert!(!answer.resumed);
        assert!(answer.incarnation.unwrap().id != stolen.id);
    }
    // The victim is not disturbed.
    victim.watch().await;
    replica.stop().await;
}

#[tokio::test]
async fn a_new_run_of_a_pod_ends_the_one_before() {
    let bed = Bed::new("attach_replaced").await;
    let (first, second) = (bed.replica().await, bed.replica().await);
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let token = bed.cluster.token(&pod);
    let mut old = Broker::connect(&first, &bed.authority).await;
    old.attach(&token).await.unwrap();
    let (mut events, _) = old.watch().await;

    // The container was restarted; its successor knows no incarnation.
    let mut new = Broker::connect(&second, &bed.authority).await;
    assert!(!new.attach(&token).await.unwrap().resumed);
    assert_eq!(
        old.ask("ana", None).await.err().unwrap().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        old.report(vec![], vec![]).await.err().unwrap().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        old.describe("ana").await.err().unwrap().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        old.try_watch().await.err().unwrap().code(),
        Code::Unauthenticated
    );
    // The other replica notices, too.
    let end = loop {
        match events.try_next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.err().unwrap().code(), Code::Unauthenticated);
    // It cannot come back as what it was.
    assert!(!old.attach(&token).await.unwrap().resumed);
    let live = "select count(*) from incarnation where fenced_time is null";
    assert_eq!(bed.count(live).await, 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_broker_is_reviewed_again_when_it_is_due() {
    let bed = Bed::new("attach_again").await;
    let replica = bed.replica().await;
    let hasty = bed.replica_with(reviewed_after(0)).await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let token = bed.cluster.token(&pod);
    let mut broker = Broker::connect(&hasty, &bed.authority).await;
    broker.attach(&token).await.unwrap();

    // Due at once: of the API server's answers only yes will do.
    for (answer, code) in [
        (ReviewError::Refused, Code::Unauthenticated),
        (ReviewError::Unavailable, Code::Unavailable),
    ] {
        bed.cluster.vouch(&token, Err(answer));
        assert_eq!(broker.attach(&token).await.err().unwrap().code(), code);
    }
    bed.cluster.vouch(&token, Ok(pod.reviewed()));
    let mut broker = broker.unattached(&replica, &bed.authority).await;
    let answer = broker.attach(&token).await.unwrap();
    assert!(answer.resumed && answer.attach_again_ms >= 150_000);
    assert_eq!(bed.cluster.reviews(), 4);
    hasty.stop().await;
    replica.stop().await;
}

#[tokio::test]
async fn a_review_comes_with_the_attach_in_the_second_half_of_the_period() {
    let bed = Bed::new("attach_half").await;
    let usual = bed.replica().await;
    let slower = bed.replica_with(reviewed_after(1_000)).await;
    let team = bed.team("team").await;
    let pod = Pod::new(&team, "app");
    let token = bed.cluster.token(&pod);
    let mut broker = Broker::connect(&usual, &bed.authority).await;
    broker.attach(&token).await.unwrap();
    assert!(broker.attach(&token).await.unwrap().resumed);
    assert_eq!(bed.cluster.reviews(), 1);

    // Of 1,000 seconds fewer than 300 are left. While nobody can be asked, they
    // still count.
    let mut broker = broker.unattached(&slower, &bed.authority).await;
    bed.cluster.vouch(&token, Err(ReviewError::Unavailable));
    let answer = broker.attach(&token).await.unwrap();
    assert!(answer.resumed && answer.attach_again_ms < 300_000);
    bed.cluster.vouch(&token, Ok(pod.reviewed()));
    let answer = broker.attach(&token).await.unwrap();
    assert!(answer.resumed && answer.attach_again_ms >= 500_000);
    assert_eq!(bed.cluster.reviews(), 3);
    assert!(broker.attach(&token).await.unwrap().resumed);
    assert_eq!(bed.cluster.reviews(), 3);
    usual.stop().await;
    slower.stop().await;
}

#[tokio::test]
async fn who_was_cut_off_past_the_grace_goes_on_once_it_is_reviewed() {
    let bed = Bed::new("attach_late").await;
    let hasty = bed.replica_with(reviewed_after(0)).await;
    let settings = Settings {
        review_grace: Duration::ZERO,
        ..Settings::default()
    };
    let replica = bed.replica_with(settings).await;
    let (team, ..) = bed.team_with_token().await;
    let pod = Pod::new(&team, "app");
    let token = bed.cluster.token(&pod);
    let mut broker = Broker::connect(&hasty, &bed.authority).await;
    broker.attach(&token).await.unwrap();
    bed.tamper("create table overdue as table incarnation")
        .await;
    let mut broker = broker.unattached(&replica, &bed.authority).await;
    broker.attach(&token).await.unwrap();
    let held = broker.granted("ana", "github").await;

    // As if its time had passed: the row as it was when it had none.
    bed.tamper(
        "update incarnation set review_due_time = overdue.review_due_time, mac = overdue.mac
         from overdue",
    )
    .await;
    // What it served is taken. More the vault cannot answer; it is not told that it is over.
    broker.report(vec![served(&held, 7)], vec![]).await.unwrap();
    let recorded = "select count(*) from access_record where outcome = 'Served' and count = 7";
    assert_eq!(bed.count(recorded).await, 1);
    let codes = [
        broker.ask("ana", None).await.err().unwrap().code(),
        broker.describe("ana").await.err().unwrap().code(),
        broker.try_watch().await.err().unwrap().code(),
    ];
    assert_eq!(codes, [Code::Unavailable; 3]);
    bed.cluster.vouch(&token, Err(ReviewError::Refused));
    let refused = broker.clone().attach(&token).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    bed.cluster.vouch(&token, Ok(pod.reviewed()));
    let answer = broker.attach(&token).await.unwrap();
    assert!(answer.resumed);
    assert_eq!((answer.last_request_no, answer.last_report_seq), (1, 1));
    hasty.stop().await;
    replica.stop().await;
}

#[tokio::test]
async fn no_call_is_answered_without_the_proof_of_its_incarnation() {
    let bed = Bed::new("attach_unproven").await;
    let replica = bed.replica().await;
    let (team, ..) = bed.team_with_token().await;
    let mut broker = bed.broker(&replica, &team, "app").await;
    let other = bed.broker(&replica, &team, "app").await;
    let own = broker.incarnation.clone().unwrap();
    let with = |proof: Vec<u8>| Incarnation {
        proof,
        ..own.clone()
    };
    let mut altered = own.proof.clone();
    altered[31] ^= 1;
    for incarnation in [
        None,
        Some(with(altered)),
        Some(with(vec![])),
        Some(with(own.proof[..16].to_vec())),
        Some(with(other.incarnation.clone().unwrap().proof)),
    ] {
        let mut forger = broker.clone();
        forger.incarnation = incarnation;
        let codes = [
            forger.ask("ana", None).await.err().unwrap().code(),
            forger.report(vec![], vec![]).await.err().unwrap().code(),
            forger.describe("ana").await.err().unwrap().code(),
            forger.try_watch().await.err().unwrap().code(),
        ];
        assert_eq!(codes, [Code::Unauthenticated; 4]);
    }
    broker.granted("ana", "github").await;
    replica.stop().await;
}
