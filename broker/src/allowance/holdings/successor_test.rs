//! What quotas count is used to its end before its successor is begun.

use std::time::Duration;

use bursar_seal::TokenVersion;
use bursar_wire::v1alpha1::Granted;
use bursar_wire::v1alpha1::grant_response::Answer;
use futures::FutureExt as _;

use super::LATELY;
use super::scene::{Scene, counted, ids};
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

    /// Whether a report should be sent soon; asks once.
    fn reports_soon(&self) -> bool {
        self.holdings
            .report_soon()
            .notified()
            .now_or_never()
            .is_some()
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
fn a_key_whose_use_begins_again_is_no_news() {
    let mut scene = Scene::new();
    for (id, is_news) in [("a1", true), ("a2", false), ("a3", false)] {
        scene.hold(counted(id, 1));
        assert!(scene.value().is_some());
        assert_eq!(scene.reports_soon(), is_news, "{id}");
        scene.clock.advance(Duration::from_secs(3));
        scene.holdings.sweep(scene.clock.boot());
        assert_eq!(scene.holdings.allowances(), 0, "it was given back");
    }
    scene.clock.advance(LATELY);
    scene.holdings.sweep(scene.clock.boot());
    scene.hold(counted("a4", 1));
    assert!(scene.value().is_some());
    assert!(scene.reports_soon());
}

#[test]
fn a_refused_call_is_told_soon() {
    let mut scene = Scene::new();
    assert!(!scene.reports_soon());
    scene
        .holdings
        .note_denial(bursar_wire::v1alpha1::Denial::default());
    assert!(scene.reports_soon());
}
