//! A new copy because an operator wants one.

use crate::host::*;
use primacy_core::effect::Reply;
use primacy_core::instance::{Failure, Foreign, Instance, Op};
use primacy_core::store::{Record, Refusal};
use primacy_core::{Command, Epoch, Event};

fn ask(b: &mut Host, consent: bool) -> Reply {
    b.command(Command::Reinit { consent });
    let mut replies = b.replies();
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies.remove(0).1
}

/// A standby of `a` that follows it, with nothing under way.
fn following() -> Host {
    let mut b = Host::standby();
    let source = Some(("a".into(), Epoch(2)));
    b.sees(Instance::Standby {
        data: data(at(2, 150)),
        source,
        streaming: true,
        ready: true,
        starved: false,
    });
    b.told();
    b
}

#[test]
fn a_copy_that_the_primary_has_is_replaced_without_asking() {
    let mut b = following();
    assert_eq!(ask(&mut b, false), Reply::Reinitializes);
    assert_eq!(b.told(), [Event::Reinitializes { source: "a".into(), position: at(2, 150) }]);
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    b.done(&stop);
    let aside = b.order();
    assert_eq!((&aside.order.op, aside.order.left), (&Op::SetAside, None), "nothing is lost with it");
    b.done(&aside);
    let copy = b.order();
    assert_eq!(copy.order.op, Op::Clone("a".into()));
    b.done(&copy);
    b.settle();
    assert_eq!(b.op(), None, "once");
}

/// It goes further than the history that was elected: `a` began epoch 3 at 200.
fn beyond() -> Host {
    Host::looked(config("b"), saved("b", &[1, 2]), reign_of_a(3), in_recovery(at(2, 300)))
}

#[test]
fn what_only_this_copy_has_is_not_given_up_without_consent() {
    let mut b = beyond();
    let stop = b.order();
    assert_eq!(ask(&mut b, false), Reply::MayLose { ours: at(2, 300), published: at(3, 300) });
    b.done(&stop);
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())), "as if nobody had asked");

    let mut b = beyond();
    let stop = b.order();
    assert_eq!(ask(&mut b, true), Reply::Reinitializes);
    b.done(&stop);
    let aside = b.order();
    assert_eq!((&aside.order.op, aside.order.left), (&Op::SetAside, Some(at(2, 200))), "with a report");
}

#[test]
fn nothing_is_given_up_unless_the_primary_lives() {
    let mut b = following();
    b.pass(secs(5));
    assert_eq!(ask(&mut b, true), Reply::NoPrimary);

    let mut b = following();
    assert_eq!(ask(&mut b, false), Reply::Reinitializes);
    let stop = b.order();
    b.pass(secs(5));
    b.done(&stop);
    let start = b.order();
    assert_eq!(start.order.op, Op::StartStandby, "it may be needed");
    b.news([beat(2, 260)]);
    b.done(&start);
    assert_eq!(b.op(), Some(&Op::Stop), "the primary was only slow");
}

#[test]
fn a_wish_is_about_one_copy_and_one_primary() {
    let mut b = following();
    ask(&mut b, false);
    let stop = b.order();
    b.news([Record::Reign(reign(3, "c")), Record::Epoch(epoch_record(3, "c", Some(fork_of(3))))]);
    b.done(&stop);
    assert_eq!(b.op(), Some(&Op::StartStandby));
}

#[test]
fn who_is_busy_or_needs_an_operator_does_not_begin() {
    assert_eq!(ask(&mut Host::primary(), true), Reply::AlreadyPrimary);

    let mut b = beyond();
    let stop = b.order();
    b.done(&stop);
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())));
    assert_eq!(ask(&mut b, true), Reply::Busy, "it is being rewound");
    let rewind = b.order();
    b.failed(&rewind, Failure::TimedOut);
    assert_eq!(ask(&mut b, true), Reply::Reinitializes);

    let mut b = following();
    b.command(Command::Switchover { to: None });
    b.replies();
    assert_eq!(ask(&mut b, true), Reply::Busy, "somebody waits for a switchover");

    let mut b = following();
    b.command(Command::Shutdown);
    assert_eq!(ask(&mut b, true), Reply::Busy, "it is about to exit");

    let foreign = Instance::Foreign(Foreign::NotPostgres);
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), reign_of_a(2), foreign);
    assert_eq!(ask(&mut b, true), Reply::Refused(Refusal::NotEligible));
}

#[test]
fn who_has_no_copy_takes_one_anyway() {
    let mut b = Host::looked(config("b"), saved("b", &[]), reign_of_a(2), Instance::Absent);
    assert_eq!(b.op(), Some(&Op::Clone("a".into())));
    assert_eq!(ask(&mut b, false), Reply::Busy, "it is doing so");
    let copy = b.order();
    b.failed(&copy, Failure::TimedOut);
    assert_eq!(ask(&mut b, false), Reply::Reinitializes);
    assert_eq!(b.told().iter().filter(|event| matches!(event, Event::Reinitializes { .. })).count(), 0);
}
