//! What is done under which fence.

use crate::host::*;
use primacy_core::instance::{Failure, Op};
use primacy_core::{Epoch, Event, Guard, Input, Timer};

#[test]
fn the_fence_is_the_end_of_the_authority_less_the_time_for_killing() {
    let a = Host::elected();
    assert_eq!(a.authority(), START + ms(4_990), "from the sending of the claim");
    assert_eq!(a.fences, [(Epoch(2), START + ms(4_490))]);
}

#[test]
fn nothing_becomes_writable_before_the_guard_has_acknowledged_the_fence() {
    let mut a = Host::elected();
    assert_eq!(a.op(), None);
    let (epoch, until) = a.fences[0];
    a.input(Input::Guard(Guard::Armed { epoch, until }));
    let promote = a.order();
    assert_eq!(promote.order.op, Op::Promote);
    assert_eq!(promote.order.epoch, Epoch(2));
    assert_eq!(promote.order.start_by, a.fence(), "not to begin at the fence");
}

#[test]
fn a_fence_of_another_epoch_allows_nothing() {
    let mut a = Host::elected();
    let until = a.fence();
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(1), until }));
    a.fences.clear();
    a.pass_pause();
    assert_eq!(a.op(), None);
    assert_eq!(a.fences, [], "the one of this epoch is on its way");
}

#[test]
fn a_fence_that_has_fallen_allows_nothing() {
    let mut a = Host::elected();
    let until = a.now;
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
    assert_eq!(a.op(), None);
    let mut a = Host::elected();
    let until = a.now + us(1);
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until }));
    assert_eq!(a.op(), Some(&Op::Promote));
}

#[test]
fn a_fence_only_moves_forward() {
    let mut a = Host::elected();
    let (fence, early) = (a.fence(), a.now + us(1));
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until: fence }));
    let promote = a.order();
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until: early }));
    a.pass(ms(100));
    a.failed(&promote, Failure::TooLate);
    a.pass(ms(100));
    a.input(Input::Wake);
    assert_eq!(a.op(), Some(&Op::Promote));
}

#[test]
fn a_fence_of_an_earlier_reign_is_replaced_however_late_it_is() {
    let mut a = Host::elected();
    let fence = a.fence();
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(1), until: fence + secs(9) }));
    a.input(Input::Guard(Guard::Armed { epoch: Epoch(2), until: fence }));
    assert_eq!(a.op(), Some(&Op::Promote));
    a.wake_for(Timer::Beat);
}

#[test]
fn a_guard_that_is_idle_again_is_told_the_fence_again() {
    let mut a = Host::elected();
    a.acknowledge();
    let promote = a.order();
    a.pass(secs(1));
    a.input(Input::Guard(Guard::Idle));
    assert_eq!(a.fences, [(Epoch(2), a.fence())]);
    a.failed(&promote, Failure::TooLate);
    a.pass(ms(100) - us(1));
    a.input(Input::Wake);
    assert_eq!(a.fences.len(), 1);
    a.pass(us(1));
    a.input(Input::Wake);
    assert_eq!(a.fences.len(), 2, "and so on, until it says so");
    assert_eq!(a.op(), None);
}

#[test]
fn without_a_guard_the_instance_is_killed_and_started_again_under_a_new_one() {
    let mut a = Host::primary();
    a.input(Input::Guard(Guard::Lost));
    assert_eq!(a.told(), [Event::GuardLost]);
    a.input(Input::Guard(Guard::Lost));
    assert_eq!(a.told(), [], "said once");
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.done(&kill);
    assert_eq!(a.op(), None, "not without a guard");
    assert_eq!(a.fences, [(Epoch(2), a.fence())]);
    a.acknowledge();
    assert_eq!(a.op(), Some(&Op::StartInPlace));
    a.settle();
    assert!(a.node.is_primary(a.now));
}

#[test]
fn as_long_as_a_lost_guards_instance_is_not_killed_nothing_is_started() {
    let mut a = Host::primary();
    a.input(Input::Guard(Guard::Lost));
    let kill = a.order();
    a.postgres = stopped(at(2, 100));
    a.failed(&kill, Failure::TimedOut);
    assert_eq!(a.fences, [], "nor is the guard told a fence");
    let (epoch, until) = (Epoch(2), a.fence());
    a.input(Input::Guard(Guard::Armed { epoch, until }));
    assert_eq!(a.op(), None);
    a.pass(ms(100));
    a.input(Input::Wake);
    assert_eq!(a.op(), Some(&Op::Kill), "again");
}

#[test]
fn a_lost_guards_standby_is_killed_as_well() {
    let mut b = Host::standby();
    b.input(Input::Guard(Guard::Lost));
    assert_eq!(b.op(), Some(&Op::Kill));
    b.settle();
    assert!(b.node.instance().runs(), "{:?}", b.node.instance());
}
