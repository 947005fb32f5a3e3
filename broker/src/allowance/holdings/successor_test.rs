//! What quotas count is used to its end before its successor is begun.

use std::time::Duration;

use bursar_seal::TokenVersion;
use bursar_wire::v1alpha1::grant_response::Answer;
use bursar_wire::v1alpha1::{Granted, denied};

use super::scene::{Scene, counted, ids};
use crate::allowance::denials::Generation;
use crate::allowance::queue::Ask;
use crate::allowance::testing::{granted, granted_version};
use crate::clock::Clock as _;

impl Scene {
    /// Serves `times` times, and tells which values.
    fn values(&mut self, times: usize) -> Vec<Option<String>> {
        (0..times).map(|_| self.value()).collect()
    }

    /// Holds `a1` of 4, of which 3 were served, and `granted`.
    fn hold_both(&mut self, granted: Granted) {
        self.hold(counted("a1", 4));
        assert!(self.values(3).iter().all(Option::is_some));
        self.next_grant().unwrap();
        self.settle(Answer::Granted(granted));
    }
}

#[test]
fn a_successor_is_begun_when_nothing_is_left() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    assert_eq!(scene.report(), (3, ids(&[])), "one is left of a1");
    assert!(scene.value().is_some());
    assert_eq!(scene.next_grant(), None, "the successor is here");
    assert_eq!(scene.holdings.allowances(), 2);
    assert!(scene.value().is_some());
    assert_eq!(scene.report(), (2, ids(&["a1"])), "nothing went back");
    assert_eq!(scene.holdings.allowances(), 1);
    assert!(scene.values(2).iter().all(Option::is_some));
    assert!(scene.next_grant().is_some(), "it is renewed in its turn");
    assert!(scene.value().is_some());
    let _waiting = scene.asked();
}

#[test]
fn the_forecast_of_a_successor_begins_with_its_use() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    scene.clock.advance(Duration::from_secs(10));
    assert!(scene.values(2).iter().all(Option::is_some));
    scene.clock.advance(Duration::from_secs(1));
    assert!(scene.values(2).iter().all(Option::is_some));
    // Three in a second, over 29.97 s.
    assert_eq!(scene.next_grant().unwrap().want, 89);
}

#[test]
fn a_newer_version_is_served_at_once() {
    let second = TokenVersion::FIRST.next().unwrap();
    let newer = granted_version("a2", 4, b"newer", second);
    let mut scene = Scene::new();
    scene.hold_both(Granted {
        counted: true,
        ..newer
    });
    assert_eq!(scene.value().as_deref(), Some("newer"));
    assert_eq!(scene.report(), (4, ids(&["a1"])));

    // Told of it first.
    let mut scene = Scene::new();
    scene.hold(counted("a1", 4));
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    scene.next_grant().unwrap();
    scene.settle(Answer::Granted(counted("a2", 4)));
    assert_eq!(scene.report(), (0, ids(&["a1"])));
}

#[test]
fn what_quotas_do_not_count_makes_way_at_once() {
    let mut scene = Scene::new();
    scene.hold(granted("a1", 4, b"s3cret"));
    assert!(scene.values(3).iter().all(Option::is_some));
    scene.next_grant().unwrap();
    scene.settle(Answer::Granted(granted("a2", 4, b"s3cret")));
    assert_eq!(scene.report(), (3, ids(&["a1"])));
}

#[test]
fn each_of_both_is_recalled_alone() {
    for (recalled, left) in [("a1", 4), ("a2", 1)] {
        let mut scene = Scene::new();
        scene.hold_both(counted("a2", 4));
        assert_eq!(scene.holdings.recall(&ids(&[recalled])), 1);
        assert_eq!(scene.report(), (3, ids(&[recalled])));
        assert_eq!(scene.values(5).iter().flatten().count(), left, "{recalled}");
    }
}

#[test]
fn both_go_back_when_nobody_uses_the_first() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    // The successor waits for longer than what is idle may stay.
    scene.clock.advance(Duration::from_millis(1_500));
    assert!(scene.value().is_some());
    scene.clock.advance(Duration::from_millis(1_500));
    scene.holdings.sweep(scene.clock.boot());
    assert_eq!(scene.holdings.allowances(), 2);
    scene.clock.advance(Duration::from_millis(500));
    scene.holdings.sweep(scene.clock.boot());
    assert_eq!(scene.report(), (4, ids(&["a1", "a2"])));
}

#[test]
fn what_is_left_when_the_lease_of_the_first_ends_is_not_served() {
    let mut scene = Scene::new();
    scene.hold(counted("a1", 4));
    scene.clock.advance(Duration::from_secs(40));
    assert!(scene.value().is_some());
    scene.next_grant().unwrap();
    scene.settle(Answer::Granted(counted("a2", 4)));
    scene.clock.advance(Duration::from_secs(20));
    assert!(scene.value().is_some());
    assert_eq!(scene.report(), (2, ids(&["a1"])));
    assert_eq!(scene.values(4).iter().flatten().count(), 3);
}

#[test]
fn a_successor_that_is_up_to_date_takes_the_place_of_a_superseded_first_at_once() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    scene.holdings.supersede(&ids(&["a1"]), scene.clock.boot());
    assert_eq!(scene.next_grant(), None, "the successor is the newer one");
    assert_eq!(scene.report(), (3, ids(&["a1"])));
    assert!(scene.value().is_some());
}

#[test]
fn when_both_are_superseded_both_make_way_for_the_third() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    let both = ids(&["a1", "a2"]);
    scene.holdings.supersede(&both, scene.clock.boot());
    assert!(scene.next_grant().is_some());
    assert_eq!(scene.holdings.allowances(), 2, "until it is here");
    scene.settle(Answer::Granted(counted("a3", 4)));
    assert_eq!(scene.report(), (3, both));
    assert_eq!(scene.holdings.allowances(), 1);
}

#[test]
fn a_successor_that_another_takes_the_place_of_goes_back() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    let ask = Ask {
        want: 4,
        waiting: 0,
    };
    let (key, now) = (scene.key.clone(), scene.clock.boot());
    scene
        .holdings
        .queue
        .begin(key, ask, Generation::default(), now);
    scene.settle(Answer::Granted(counted("a3", 4)));
    assert_eq!(scene.report(), (3, ids(&["a2"])));
    assert_eq!(scene.values(6).iter().flatten().count(), 5);
}

#[test]
fn a_denial_ends_both() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    let both = ids(&["a1", "a2"]);
    scene.holdings.supersede(&both, scene.clock.boot());
    scene.next_grant().unwrap();
    scene.deny(denied::Code::Revoked);
    assert_eq!(scene.report(), (3, both));
}

#[test]
fn both_are_void_in_a_new_incarnation() {
    let mut scene = Scene::new();
    scene.hold_both(counted("a2", 4));
    // Something is asked for, so the entry itself stays.
    let both = ids(&["a1", "a2"]);
    scene.holdings.supersede(&both, scene.clock.boot());
    assert_eq!(scene.holdings.start_over(), 3);
    assert_eq!(scene.holdings.allowances(), 0);
    let _waiting = scene.asked();
    scene.next_grant().unwrap();
    scene.settle(Answer::Granted(counted("a3", 4)));
    assert_eq!(scene.report(), (0, ids(&[])));
}
