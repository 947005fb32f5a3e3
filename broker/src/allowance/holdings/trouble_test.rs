//! What holds when the vault fails, goes away or forgets, and at the end.

use std::time::Duration;

use bursar_wire::v1alpha1::AskAgain;
use bursar_wire::v1alpha1::grant_response::Answer;

use super::scene::{Scene, ids};
use super::{Outcome, Served};
use crate::allowance::denials::Denial;
use crate::allowance::key::EntryKey;
use crate::allowance::testing::{granted, tenant};
use crate::clock::Clock as _;

#[test]
fn a_request_whose_answer_was_lost_is_sent_again_unchanged() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    let first = scene.next_grant().unwrap();
    scene.clock.advance(Duration::from_secs(10));
    assert_eq!(scene.next_grant(), Some(first));
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert_eq!(scene.next_grant(), None);
}

#[test]
fn no_renewal_is_asked_for_while_the_vault_is_away() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 8, b"s3cret"));
    for away in [false, true] {
        scene.holdings.detached(away);
        for _ in 0..4 {
            assert!(scene.value().is_some());
        }
        assert_eq!(scene.next_grant(), None);
    }
}

#[test]
fn an_unusable_answer_is_closed_and_not_asked_for_each_time() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    let mut damaged = granted("a1", 5, b"s3cret");
    damaged.ciphertext[20] ^= 1;
    scene.settle(Answer::Granted(damaged));
    assert!(matches!(scene.serve(), Served::Refused(Denial::Unusable)));
    assert_eq!(scene.report(), (0, ids(&["a1"])));
    scene.clock.advance(Duration::from_secs(1));
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    scene.holdings.settle(None, tenant(), 0, scene.clock.boot());
    assert!(matches!(scene.serve(), Served::Refused(Denial::Unusable)));
}

#[test]
fn nobody_waits_for_a_vault_that_is_away_and_what_was_granted_meanwhile_is_used() {
    let mut scene = Scene::new();
    let outcome = scene.asked();
    let request = scene.next_grant().unwrap();
    scene.holdings.detached(true);
    assert!(matches!(*outcome.borrow(), Some(Outcome::VaultAway)));
    assert!(matches!(scene.serve(), Served::VaultAway));
    assert!(
        !scene.holdings.is_settled(),
        "the request may have been granted"
    );
    scene.holdings.attached(scene.clock.boot());
    assert_eq!(scene.next_grant(), Some(request));
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert!(scene.value().is_some());
}

#[test]
fn what_is_held_is_served_while_the_vault_is_away_and_then_no_longer() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    scene.holdings.detached(true);
    scene.clock.advance(Duration::from_secs(59));
    assert!(scene.value().is_some());
    scene.clock.advance(Duration::from_secs(1));
    assert!(matches!(scene.serve(), Served::VaultAway));
}

#[test]
fn a_new_incarnation_voids_all_and_starts_its_numbers_again() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    assert!(scene.value().is_some());
    assert!(scene.value().is_some());
    assert!(scene.holdings.agrees_with(0, 1) && !scene.holdings.agrees_with(0, 0));
    assert_eq!(scene.holdings.start_over(), 2);
    assert!(scene.holdings.agrees_with(0, 0));
    let _waiting = scene.asked();
    assert_eq!(scene.report(), (0, Vec::new()));
    assert_eq!(scene.next_grant().unwrap().request_no, 1);
}

#[test]
fn those_who_wait_while_an_incarnation_ends_get_the_next_ones_answer() {
    let mut scene = Scene::new();
    let outcome = scene.asked();
    scene.next_grant().unwrap();
    scene.holdings.start_over();
    assert!(outcome.borrow().is_none());
    assert_eq!(scene.next_grant().unwrap().request_no, 1);
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert!(matches!(*outcome.borrow(), Some(Outcome::LookAgain)));
}

#[test]
fn an_orderly_end_reports_every_access_and_closes_every_allowance() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    for _ in 0..7 {
        assert!(scene.value().is_some());
    }
    // One more is under way when the end comes.
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    scene.next_grant().unwrap();
    scene.holdings.close();
    assert!(matches!(scene.serve(), Served::VaultAway));
    assert_eq!(scene.report(), (7, ids(&["a1"])));
    assert!(!scene.holdings.is_settled());
    scene.settle(Answer::Granted(granted("a2", 100, b"s3cret")));
    assert_eq!(scene.report(), (0, ids(&["a2"])));
    assert!(scene.holdings.is_settled());
    assert_eq!(scene.next_grant(), None);
}

#[test]
fn unreported_accesses_are_counted_wherever_they_are() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    scene.value();
    assert_eq!(scene.holdings.unreported(), 1);
    let batch = scene.holdings.next_batch().unwrap();
    scene.value();
    assert_eq!(scene.holdings.unreported(), 2);
    scene.holdings.recall(&ids(&["a1"]));
    assert_eq!(scene.holdings.unreported(), 2);
    scene.holdings.acknowledge(batch.seq);
    assert_eq!(scene.holdings.unreported(), 1);
    assert_eq!(scene.report(), (1, ids(&["a1"])));
    assert_eq!(scene.holdings.unreported(), 0);
}

#[test]
fn a_question_that_everybody_gave_up_is_not_asked() {
    let mut scene = Scene::new();
    drop(scene.asked());
    assert_eq!(scene.next_grant(), None);
    assert!(scene.holdings.is_settled());
    // The next one who asks is heard.
    let _waiting = scene.asked();
    assert!(scene.next_grant().is_some());
}

#[test]
fn no_more_callers_wait_than_there_is_room_for() {
    let mut scene = Scene::new();
    let mut waiting = Vec::new();
    for n in 0..1_024 {
        scene.key = EntryKey::new("ana", Some(&n.to_string()));
        waiting.push(scene.asked());
    }
    scene.key = EntryKey::new("ana", Some("one-more"));
    assert!(matches!(scene.serve(), Served::VaultAway));
    // Whoever asks for the same as another needs no room.
    scene.key = EntryKey::new("ana", Some("0"));
    scene.asked();
}

#[test]
fn an_error_of_the_vault_is_the_trouble_of_one_token_alone() {
    let mut scene = Scene::new();
    let troubled = scene.asked();
    let other = scene.key.clone();
    scene.key = EntryKey::new("ana", Some("slack"));
    let waiting = scene.asked();
    let first = scene.next_grant().unwrap();
    scene.holdings.fail(Denial::Unavailable, scene.clock.boot());
    let told = troubled.borrow().clone();
    assert!(matches!(told, Some(Outcome::Refused(Denial::Unavailable))));
    assert!(waiting.borrow().is_none());
    let second = scene.next_grant().unwrap();
    assert_eq!(
        (second.request_no, second.token.as_deref()),
        (first.request_no, Some("slack"))
    );
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert!(scene.value().is_some());
    // The vault is left alone about the other for a second.
    scene.key = other;
    assert!(matches!(
        scene.serve(),
        Served::Refused(Denial::Unavailable)
    ));
    scene.clock.advance(Duration::from_secs(1));
    scene.asked();
}

#[test]
fn a_renewal_that_fails_leaves_what_is_held_and_is_tried_once_a_second() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 1_000, b"s3cret"));
    scene.clock.advance(Duration::from_secs(40));
    assert!(scene.value().is_some());
    assert!(scene.next_grant().is_some());
    scene.holdings.fail(Denial::Unavailable, scene.clock.boot());
    for _ in 0..100 {
        assert!(scene.value().is_some());
    }
    assert!(scene.holdings.nothing_is_queued());
    scene.clock.advance(Duration::from_secs(1));
    assert!(scene.value().is_some());
    assert!(!scene.holdings.nothing_is_queued());
}

#[test]
fn what_a_failed_request_was_granted_after_all_is_closed_by_the_next_of_its_number() {
    let mut scene = Scene::new();
    scene.hold(granted("held", 1_000, b"s3cret"));
    let held = scene.key.clone();
    scene.key = EntryKey::new("ana", Some("slack"));
    let outcome = scene.asked();
    assert_eq!(scene.next_grant().unwrap().request_no, 2);
    scene.holdings.fail(Denial::Unavailable, scene.clock.boot());
    let told = outcome.borrow().clone();
    assert!(matches!(told, Some(Outcome::Refused(Denial::Unavailable))));

    // A renewal does not wait for it, however often it fails.
    scene.key = held;
    scene.clock.advance(Duration::from_secs(40));
    assert!(scene.value().is_some());
    let renewal = scene.next_grant().unwrap();
    assert_eq!(
        (renewal.request_no, renewal.token.as_deref()),
        (2, Some("github"))
    );
    scene.settle(Answer::AskAgain(AskAgain {
        close_allowance_id: Some("late".to_owned()),
    }));
    assert!(scene.value().is_some(), "what is held is served on");
    assert_eq!(scene.next_grant().unwrap().request_no, 3);
    assert_eq!(scene.report().1, ids(&["late"]));
}

#[test]
fn a_failed_request_is_repeated_at_the_end_so_that_nothing_stays_granted() {
    let mut scene = Scene::new();
    let _waiting = scene.asked();
    let request = scene.next_grant();
    scene.holdings.fail(Denial::Unavailable, scene.clock.boot());
    scene.holdings.close();
    assert!(!scene.holdings.is_settled());
    assert_eq!(scene.next_grant(), request);
    scene.settle(Answer::Granted(granted("a1", 5, b"s3cret")));
    assert_eq!(scene.report(), (0, ids(&["a1"])));
    assert!(scene.holdings.is_settled());
}

#[test]
fn a_version_superseded_before_the_vault_can_be_asked_is_renewed_as_soon_as_it_can() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"old"));
    scene.holdings.detached(true);
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    assert_eq!(scene.next_grant(), None);
    scene.holdings.attached(scene.clock.boot());
    assert!(scene.next_grant().is_some());
}

#[test]
fn what_is_lost_when_an_incarnation_ends_during_the_end_is_known() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 100, b"s3cret"));
    scene.value();
    scene.holdings.close();
    assert_eq!(scene.holdings.lost_at_end(), None);
    scene.holdings.start_over();
    assert!(scene.holdings.is_settled());
    assert_eq!(scene.holdings.lost_at_end(), Some(1));
    // Nothing is left to lose.
    scene.holdings.start_over();
    assert_eq!(scene.holdings.lost_at_end(), Some(1));
}
