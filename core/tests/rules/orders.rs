//! What PostgreSQL is ordered, by when, and what is durable before.

use crate::host::*;
use primacy_core::instance::{Failure, Found, Instance, Op, Saved};
use primacy_core::store::Record;
use primacy_core::{Config, Effect, Epoch, Event, Input, Timer};

#[test]
fn an_order_says_by_when_it_has_to_begin_and_to_end_and_what_to_keep_beside_the_data() {
    let mut b = Host::standby();
    let effects = b.sees(stopped(at(2, 200)));
    let start = b.order();
    let order = primacy_core::instance::Order {
        op: Op::StartStandby,
        epoch: Epoch(2),
        start_by: b.now + secs(24 * 3_600),
        until: b.now + secs(24 * 3_600),
        saved: saved("b", &[1, 2]),
        left: None,
    };
    assert_eq!(effects, [Effect::Postgres(start.id, order)]);
}

#[test]
fn a_kill_has_twice_the_time_that_killing_may_take() {
    let mut b = Host::standby();
    b.sees(writable(at(3, 1), &[]));
    assert_eq!(b.order().order.until, b.now + secs(1));
}

#[test]
fn a_stop_of_a_standby_ends_after_its_patience() {
    let mut b = Host::standby();
    b.command(primacy_core::Command::Shutdown);
    let stop = b.order();
    assert_eq!((&stop.order.op, stop.order.until), (&Op::Stop, b.now + secs(60)));
}

#[test]
fn an_order_belongs_to_the_reign_that_is_held_or_else_to_the_highest_that_was_seen() {
    let mut a = Host::primary();
    a.sees(Instance::Unknown);
    assert_eq!(a.order().order.epoch, Epoch(2));
    let past = Saved { highest: Epoch(2), ..saved("b", &[1]) };
    let mut b = Host::new(config("b"), past, reign_of_a(2), stopped(at(1, 100)));
    b.input(Input::Wake);
    assert_eq!(b.order().order.epoch, Epoch(2));
}

#[test]
fn one_order_at_a_time_and_its_answer_counts_once() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    let start = b.order();
    assert_eq!(b.input(Input::Wake), []);
    b.done(&start);
    let follow = b.order();
    b.postgres = Instance::Absent;
    assert_eq!(b.failed(&start, Failure::TimedOut), [], "an answer to another order");
    b.postgres = in_recovery(at(2, 200));
    b.done(&follow);
    assert_eq!((b.role(), b.op()), ("standby", None));
}

#[test]
fn no_two_effects_have_the_same_number() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    b.input(Input::News(primacy_core::store::News::Interrupted));
    let (start, read) = (b.order(), b.read());
    assert_ne!(start.id, read.id);
}

#[test]
fn a_look_from_before_an_orders_answer_is_not_believed() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    let start = b.order();
    assert_eq!(b.input(Input::Instance(Found { instance: Instance::Absent, saved: None })), []);
    b.done(&start);
    assert!(b.node.instance().runs());
}

#[test]
fn a_failed_order_is_told_and_given_again_after_a_pause() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    let start = b.order();
    let why = Failure::TimedOut;
    let told = Event::Failed { op: Op::StartStandby, why: why.clone() };
    assert_eq!(b.failed(&start, why), [Effect::Tell(told)]);
    assert_eq!(b.node.deadline(b.now), Some((b.now + ms(100), Timer::Again)));
    b.wake_at(b.now + ms(100) - us(1));
    assert_eq!(b.op(), None);
    b.wake_at(b.now + us(1));
    assert_eq!(b.op(), Some(&Op::StartStandby));
}

/// Fails the order under way, and says after how many milliseconds the same one is given again.
fn pause_after_failure(b: &mut Host, op: &Op) -> u64 {
    let failing = b.order();
    assert_eq!(&failing.order.op, op);
    b.failed(&failing, Failure::TimedOut);
    let before = b.now;
    while b.op().is_none() {
        let (time, _) = b.node.deadline(b.now).expect("it is given again");
        b.wake_at(time);
    }
    b.now.since(before).0 / 1_000
}

#[test]
fn what_fails_again_and_again_is_tried_less_and_less_often() {
    let copy = Op::Clone("a".into());
    let mut b = Host::looked(config("b"), saved("b", &[]), reign_of_a(2), Instance::Absent);
    let pauses: Vec<_> = (0..7).map(|_| pause_after_failure(&mut b, &copy)).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1_600, 1_600, 1_600]);

    let failing = b.order();
    b.failed(&failing, Failure::TimedOut);
    b.news([Record::Reign(reign(3, "c")), Record::Epoch(epoch_record(3, "c", Some(fork_of(3))))]);
    b.pass_pause();
    assert_eq!(pause_after_failure(&mut b, &Op::Clone("c".into())), 100, "another source is another matter");
}

#[test]
fn the_same_source_in_another_reign_is_tried_soon() {
    let copy = Op::Clone("a".into());
    let mut b = Host::looked(config("b"), saved("b", &[]), reign_of_a(2), Instance::Absent);
    assert_eq!([100, 200, 400].map(|_| pause_after_failure(&mut b, &copy)), [100, 200, 400]);
    let failing = b.order();
    b.failed(&failing, Failure::TimedOut);
    b.news([Record::Reign(reign(3, "a")), Record::Epoch(epoch_record(3, "a", Some(fork_of(3))))]);
    b.pass_pause();
    assert_eq!(pause_after_failure(&mut b, &copy), 100);
}

#[test]
fn what_has_succeeded_counts_from_the_beginning() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    assert_eq!(
        (pause_after_failure(&mut b, &Op::StartStandby), pause_after_failure(&mut b, &Op::StartStandby)),
        (100, 200)
    );
    let start = b.order();
    b.postgres = in_recovery(at(2, 200));
    b.done(&start);
    b.settle();
    b.sees(stopped(at(2, 200)));
    assert_eq!(pause_after_failure(&mut b, &Op::StartStandby), 100);
}

#[test]
fn who_sees_nothing_goes_on_looking_as_often() {
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), reign_of_a(2), Instance::Unknown);
    b.input(Input::Guard(primacy_core::Guard::Idle));
    let read = b.read();
    b.answer(&read);
    let pauses: Vec<_> = (0..4).map(|_| pause_after_failure(&mut b, &Op::Look)).collect();
    assert_eq!(pauses, [100; 4]);
}

#[test]
fn pauses_need_not_grow() {
    let copy = Op::Clone("a".into());
    let settings = Config { retry_longest: ms(100), ..config("b") };
    let mut b = Host::looked(settings, saved("b", &[]), reign_of_a(2), Instance::Absent);
    let pauses: Vec<_> = (0..4).map(|_| pause_after_failure(&mut b, &copy)).collect();
    assert_eq!(pauses, [100; 4]);
}

#[test]
fn another_order_that_succeeds_in_between_mends_nothing() {
    let copy = Op::Clone("a".into());
    let mut b = Host::looked(config("b"), saved("b", &[]), reign_of_a(2), Instance::Absent);
    assert_eq!(pause_after_failure(&mut b, &copy), 100);
    let failing = b.order();
    b.postgres = Instance::Incomplete;
    b.failed(&failing, Failure::TimedOut);
    let before = b.now;
    b.pass_pause();
    let aside = b.order();
    assert_eq!(aside.order.op, Op::SetAside);
    b.postgres = Instance::Absent;
    b.done(&aside);
    assert_eq!(b.op(), None);
    b.wake_at(before + ms(200));
    assert_eq!(b.op(), Some(&copy));
}

#[test]
fn nobody_waits_longer_to_end_or_to_promote_what_failed_before() {
    let waits = |op: Op| op.may_wait();
    let (a, ends) =
        (|| "a".into(), [Op::Look, Op::CloseSources, Op::Promote, Op::StartInPlace, Op::Stop, Op::Kill]);
    assert!(!ends.into_iter().any(waits) && !waits(Op::Checkpoint));
    let brings_back =
        [Op::Initdb, Op::Clone(a()), Op::Rewind(a()), Op::SetAside, Op::StartStandby, Op::Follow(a())];
    assert!(brings_back.into_iter().all(waits) && waits(Op::Settle));
}

#[test]
fn a_kill_takes_the_place_of_what_is_under_way_and_is_not_given_twice() {
    let mut a = Host::primary();
    assert_eq!(a.shut_down().order.op, Op::Stop);
    a.news([Record::Reign(reign(3, "b"))]);
    assert_eq!(a.op(), Some(&Op::Kill), "in place of the stop");
    a.ordered = None;
    a.input(Input::Wake);
    assert_eq!(a.op(), None);
}

#[test]
fn after_a_failed_kill_there_is_a_pause() {
    let mut b = Host::standby();
    b.sees(writable(at(3, 1), &[]));
    let kill = b.order();
    b.failed(&kill, Failure::TimedOut);
    assert_eq!(b.op(), None);
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::Kill));
}

#[test]
fn during_the_pause_nothing_else_is_ordered_and_nothing_told() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    let start = b.order();
    b.failed(&start, Failure::TimedOut);
    b.told();
    b.sees(in_recovery(at(2, 200)));
    assert_eq!((b.told(), b.op()), (vec![], None));
    b.pass_pause();
    assert_eq!(b.told(), [Event::Follows { source: "a".into(), epoch: Epoch(2) }]);
}

#[test]
fn what_survives_a_crash_is_the_highest_reign_also_without_a_copy() {
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), reign_of_a(2), Instance::Incomplete);
    b.input(Input::Wake);
    let look = b.order();
    b.done(&look);
    let read = b.read();
    b.answer(&read);
    let aside = b.order();
    assert_eq!(aside.order.saved, Saved { highest: Epoch(2), ..Saved::default() });
    assert_eq!(b.node.saved(), &saved("b", &[1, 2]), "not before it is done");
    b.done(&aside);
    assert_eq!(b.node.saved(), &Saved { highest: Epoch(2), ..Saved::default() });
}

#[test]
fn a_look_that_finds_nothing_is_repeated_after_a_pause() {
    let mut b = Host::standby();
    b.sees(Instance::Unknown);
    let look = b.order();
    assert_eq!(look.order.op, Op::Look);
    b.done(&look);
    assert_eq!(b.op(), None);
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::Look));
}
