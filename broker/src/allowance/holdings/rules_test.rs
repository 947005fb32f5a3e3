//! The rules by which allowances come and go.

use std::time::Duration;

use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{self, AskAgain, denied};
use futures::FutureExt as _;

use super::scene::{Scene, counted, ids};
use super::{LATELY, Outcome, Served};
use crate::allowance::denials::Denial;
use crate::allowance::key::EntryKey;
use crate::allowance::testing::granted;
use crate::clock::Clock as _;

#[test]
fn many_that_miss_at_once_are_one_request_that_asks_for_all() {
    let mut scene = Scene::new();
    let waiting: Vec<_> = (0..700).map(|_| scene.asked()).collect();
    let request = scene.next_grant().unwrap();
    assert_eq!((request.request_no, request.want), (1, 1_400));
    scene.settle(Answer::Granted(granted("a1", 1_400, b"s3cret")));
    assert!(
        waiting
            .iter()
            .all(|outcome| matches!(*outcome.borrow(), Some(Outcome::LookAgain)))
    );
    assert!((0..700).all(|_| scene.value().is_some()));
    assert_eq!(scene.next_grant(), None, "half is left");
}

#[test]
fn a_lease_counts_from_when_the_request_was_first_sent() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    scene.clock.advance(Duration::from_secs(59));
    scene.next_grant().unwrap();
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert!(scene.value().is_some());
    scene.clock.advance(Duration::from_secs(1));
    assert!(scene.value().is_none());
}

#[test]
fn an_allowance_is_renewed_ahead_and_the_old_one_closed_with_its_record() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 6, b"one"));
    for _ in 0..3 {
        assert_eq!(scene.value().as_deref(), Some("one"));
        assert_eq!(scene.next_grant(), None);
    }
    assert_eq!(scene.value().as_deref(), Some("one"));
    assert!(scene.next_grant().is_some());
    assert_eq!(scene.value().as_deref(), Some("one"));
    scene.settle(Answer::Granted(granted("a2", 6, b"two")));
    assert_eq!(scene.value().as_deref(), Some("two"));
    assert_eq!(scene.report(), (6, ids(&["a1"])));
    assert_eq!(scene.holdings.allowances(), 1);
}

#[test]
fn an_allowance_that_nobody_uses_is_not_renewed() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 4, b"s3cret"));
    scene.clock.advance(Duration::from_secs(59));
    assert_eq!(scene.next_grant(), None);
    scene.clock.advance(Duration::from_secs(1));
    scene.holdings.sweep(scene.clock.boot());
    assert_eq!(scene.holdings.allowances(), 0);
    assert_eq!(scene.report(), (0, ids(&["a1"])));
    assert!(scene.holdings.is_settled());
}

#[test]
fn a_recalled_allowance_is_never_served_again() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 5, b"s3cret"));
    assert!(scene.value().is_some());
    assert_eq!(scene.holdings.recall(&ids(&["a1", "unknown"])), 1);
    assert!(scene.value().is_none());
    assert_eq!(scene.report(), (1, ids(&["a1"])));
}

#[test]
fn a_recall_that_overtakes_the_answer_is_honoured() {
    let mut scene = Scene::new();
    let outcome = scene.asked();
    scene.next_grant().unwrap();
    assert_eq!(scene.holdings.recall(&ids(&["a1"])), 0);
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert!(matches!(*outcome.borrow(), Some(Outcome::LookAgain)));
    let _again = scene.asked();
    // Whoever waited asks again, and gets what is true now.
    assert_eq!(scene.next_grant().unwrap().request_no, 2);
    assert_eq!(scene.report(), (0, ids(&["a1"])));
}

#[test]
fn a_recall_from_before_the_request_does_not_touch_its_answer() {
    let mut scene = Scene::new();
    scene.holdings.recall(&ids(&["a1"]));
    scene.hold(granted("a1", 5, b"s3cret"));
    assert!(scene.value().is_some());
}

#[test]
fn a_superseded_allowance_serves_until_the_new_version_is_here() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"old"));
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    assert!(
        scene.next_grant().is_some(),
        "the new version is asked for without a request"
    );
    assert_eq!(scene.value().as_deref(), Some("old"));
    scene.settle(Answer::Granted(granted("a2", 100, b"new")));
    assert_eq!(scene.value().as_deref(), Some("new"));
    assert_eq!(scene.report(), (2, ids(&["a1"])));
    assert_eq!(scene.next_grant(), None);
}

#[test]
fn an_answer_that_was_superseded_on_its_way_is_asked_for_again() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    scene.settle(Answer::Granted(granted("a1", 100, b"old")));
    assert_eq!(scene.value().as_deref(), Some("old"));
    assert_eq!(scene.next_grant().unwrap().request_no, 2);
}

#[test]
fn a_denied_renewal_ends_what_is_held() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 2, b"s3cret"));
    assert!(scene.value().is_some());
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    scene.next_grant().unwrap();
    scene.deny(denied::Code::Revoked);
    assert!(matches!(
        scene.serve(),
        Served::Refused(Denial::TokenRevoked)
    ));
    assert_eq!(scene.report(), (1, ids(&["a1"])));
}

#[test]
fn a_denial_is_repeated_for_a_second_without_the_vault() {
    let mut scene = Scene::new();
    let outcome = scene.asked();
    scene.next_grant().unwrap();
    scene.deny(denied::Code::Forbidden);
    let told = outcome.borrow().clone();
    assert!(matches!(told, Some(Outcome::Refused(Denial::Forbidden))));
    for _ in 0..1_000 {
        assert!(matches!(scene.serve(), Served::Refused(Denial::Forbidden)));
    }
    assert_eq!(scene.next_grant(), None);
    scene.clock.advance(Duration::from_secs(1));
    let _waiting = scene.asked();
    assert!(scene.next_grant().is_some());
}

#[test]
fn a_change_of_entitlements_ends_a_denial_at_once() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    scene.deny(denied::Code::Forbidden);
    scene.holdings.forget_denials();
    let _waiting = scene.asked();
    // And one that was on its way when they changed is not remembered.
    scene.next_grant().unwrap();
    scene.holdings.forget_denials();
    scene.deny(denied::Code::Forbidden);
    scene.asked();
}

#[test]
fn what_is_held_is_renewed_before_what_is_missed() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    let held = scene.key.clone();
    let mut missed = Vec::new();
    for n in 0..100 {
        scene.key = EntryKey::new("ana", Some(&format!("missed-{n}")));
        missed.push(scene.asked());
    }
    scene.key = held;
    scene.clock.advance(Duration::from_secs(40));
    assert!(scene.value().is_some());
    assert_eq!(scene.next_grant().unwrap().token.as_deref(), Some("github"));
}

#[test]
fn what_does_not_stand_any_more_is_closed_and_asked_for_again() {
    let mut scene = Scene::new();
    let waiting = scene.asked();
    assert_eq!(scene.next_grant().unwrap().request_no, 1);
    scene.settle(Answer::AskAgain(AskAgain {
        close_allowance_id: Some("a1".to_owned()),
    }));
    assert!(matches!(*waiting.borrow(), Some(Outcome::LookAgain)));
    assert_eq!(scene.report(), (0, ids(&["a1"])));
    let _again = scene.asked();
    assert_eq!(scene.next_grant().unwrap().request_no, 2);
}

#[test]
fn what_quotas_count_and_nobody_uses_is_given_back() {
    let mut scene = Scene::new();
    scene.hold(counted("a1", 5));
    for _ in 0..3 {
        scene.clock.advance(Duration::from_millis(1_500));
        assert!(scene.value().is_some());
        scene.holdings.sweep(scene.clock.boot());
        assert_eq!(scene.holdings.allowances(), 1, "it is in use");
    }
    scene.clock.advance(Duration::from_secs(2));
    scene.holdings.sweep(scene.clock.boot());
    assert_eq!(scene.report(), (3, ids(&["a1"])));

    scene.hold(granted("a2", 5, b"s3cret"));
    scene.clock.advance(Duration::from_secs(20));
    scene.holdings.sweep(scene.clock.boot());
    assert_eq!(scene.holdings.allowances(), 1, "nobody waits for this one");
}

#[test]
fn what_quotas_count_is_kept_while_the_vault_is_out_of_reach() {
    for away in [false, true] {
        let mut scene = Scene::new();
        scene.hold(counted("a1", 5));
        scene.holdings.detached(away);
        scene.clock.advance(Duration::from_secs(50));
        scene.holdings.sweep(scene.clock.boot());
        assert!(scene.value().is_some(), "the lease is not over");
        scene.clock.advance(Duration::from_secs(3));
        scene.holdings.attached(scene.clock.boot());
        scene.holdings.sweep(scene.clock.boot());
        assert_eq!(scene.holdings.allowances(), 0, "others can use it again");
    }
}

#[test]
fn a_renewal_that_finds_a_quota_used_up_leaves_the_rest_to_be_served() {
    let mut scene = Scene::new();
    scene.hold(counted("a1", 4));
    for _ in 0..3 {
        assert!(scene.value().is_some());
    }
    let renewal = scene.next_grant().unwrap();
    assert_eq!(renewal.waiting, 0, "nobody waits for it");
    scene.deny(denied::Code::QuotaExhausted);
    assert!(scene.value().is_some(), "one is left");
    assert_eq!(scene.next_grant(), None, "and is not renewed again");

    // Only who waits has the others asked, and is refused when nothing came back.
    let waiting = scene.asked();
    assert_eq!(scene.next_grant().unwrap().waiting, 1);
    scene.deny(denied::Code::QuotaExhausted);
    let exhausted = Denial::QuotaExhausted {
        retry_after: None,
        quotas: vec![],
    };
    assert!(matches!(&*waiting.borrow(), Some(Outcome::Refused(denial)) if *denial == exhausted));
    assert_eq!(scene.report(), (4, ids(&["a1"])));
}

#[test]
fn who_came_while_a_renewal_found_a_quota_used_up_asks_again() {
    let mut scene = Scene::new();
    scene.hold(counted("a1", 2));
    assert!(scene.value().is_some());
    assert!(scene.value().is_some());
    assert_eq!(scene.next_grant().unwrap().waiting, 0);
    let waiting = scene.asked();
    scene.deny(denied::Code::QuotaExhausted);
    assert!(matches!(*waiting.borrow(), Some(Outcome::LookAgain)));
    let _again = scene.asked();
    assert_eq!(scene.next_grant().unwrap().waiting, 1);
}

/// Whether a report should be sent soon; asks once.
fn reports_soon(scene: &Scene) -> bool {
    let soon = scene.holdings.report_soon();
    soon.notified().now_or_never().is_some()
}

#[test]
fn a_key_whose_use_begins_again_is_no_news() {
    let mut scene = Scene::new();
    for (id, is_news) in [("a1", true), ("a2", false), ("a3", false)] {
        scene.hold(counted(id, 1));
        assert!(scene.value().is_some());
        assert_eq!(reports_soon(&scene), is_news, "{id}");
        scene.clock.advance(Duration::from_secs(3));
        scene.holdings.sweep(scene.clock.boot());
        assert_eq!(scene.holdings.allowances(), 0, "it was given back");
    }
    scene.clock.advance(LATELY);
    scene.holdings.sweep(scene.clock.boot());
    scene.hold(granted("a4", 5, b"s3cret"));
    assert!(scene.value().is_some());
    assert!(reports_soon(&scene));
    // Nor one that goes on.
    scene.clock.advance(LATELY);
    scene.holdings.sweep(scene.clock.boot());
    assert!(scene.value().is_some());
    assert!(!reports_soon(&scene));
}

#[test]
fn a_refused_call_is_told_soon() {
    let mut scene = Scene::new();
    assert!(!reports_soon(&scene));
    scene.holdings.note_denial(v1alpha1::Denial::default());
    assert!(reports_soon(&scene));
}
