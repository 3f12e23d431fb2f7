//! When a node wants to be woken.

use crate::host::*;
use primacy_core::store::News;
use primacy_core::{Input, Timer};

/// All wake-ups ahead if nothing is answered.
fn ahead(mut host: Host, count: usize) -> Vec<(primacy_core::Span, Timer)> {
    let begun = host.now;
    let mut found = Vec::new();
    while let Some((time, why)) = host.node.deadline(host.now).filter(|_| found.len() < count) {
        assert!(time > host.now, "a deadline lies ahead");
        found.push((time.since(begun), why));
        host.wake_at(time);
    }
    found
}

#[test]
fn an_agent_begins_at_once() {
    let a = Host::empty("a");
    assert_eq!(a.node.deadline(a.now), Some((a.now + us(1), Timer::Begin)));
    let mut a = Host::empty("a");
    a.input(Input::Wake);
    assert_eq!(a.node.deadline(a.now), None, "it waits for answers");
    let read = a.read();
    a.unknown(&read);
    assert_eq!(a.node.deadline(a.now), Some((a.now + ms(100), Timer::Again)));
}

#[test]
fn a_primary_wakes_for_its_beats_and_for_the_orderly_stop_and_for_the_fence() {
    let expected = [(ms(1_250), Timer::Beat), (ms(3_490), Timer::Fence), (ms(4_490), Timer::Fence)];
    assert_eq!(ahead(Host::primary(), 3), expected);
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    assert_eq!(a.node.deadline(a.now).map(|(_, why)| why), Some(Timer::Fence), "one beat is under way");
}

#[test]
fn a_standby_wakes_when_the_lease_lapses() {
    assert_eq!(ahead(Host::standby(), 2), [(secs(5), Timer::Election)]);
}

#[test]
fn of_several_reasons_the_first_in_time_counts() {
    let mut a = Host::primary();
    a.input(Input::News(News::Interrupted));
    let read = a.read();
    a.unknown(&read);
    assert_eq!(a.node.deadline(a.now), Some((a.now + ms(100), Timer::Again)));
    a.switchover(None);
    a.pass_pause();
    assert_eq!(a.node.deadline(a.now).map(|(_, why)| why), Some(Timer::Beat));
}

#[test]
fn a_wake_without_need_does_no_harm() {
    for mut host in [Host::primary(), Host::standby()] {
        let before = host.node.clone();
        assert_eq!(host.input(Input::Wake), []);
        assert_eq!(host.node, before);
    }
}
