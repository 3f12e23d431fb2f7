//! A failover that may lose commits, by an operator's consent.

use crate::host::*;
use primacy_core::effect::Reply;
use primacy_core::event::Right;
use primacy_core::instance::{Op, Saved};
use primacy_core::store::{Record, Refusal, Reign, Switchover, View};
use primacy_core::{Command, Config, Epoch, Event, Nonce, Timer};

/// The store of `a`, whose last published end lies far beyond what `b` has, and which lists nobody.
fn nobody_listed() -> View {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Rule(rule(2, "a", &[])), beat(2, 900)]);
    store
}

fn lagging() -> Host {
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), nobody_listed(), in_recovery(at(2, 200)));
    b.settle();
    b.told();
    b
}

fn allow(b: &mut Host, consent: bool) -> Vec<Reply> {
    b.command(Command::Failover { consent });
    b.replies().into_iter().map(|(_, reply)| reply).collect()
}

#[test]
fn what_may_be_lost_is_said_and_nothing_is_done_without_consent() {
    let mut b = lagging();
    let (ours, published) = (at(2, 200), at(2, 900));
    assert_eq!(allow(&mut b, false), [Reply::MayLose { ours, published }]);
    assert_eq!(b.node.deadline(b.now), None, "there is no election ahead");
}

#[test]
fn a_member_that_nobody_lists_stands_by_consent_once_the_lease_has_lapsed() {
    let mut b = lagging();
    assert_eq!(allow(&mut b, true), []);
    let (ours, published) = (at(2, 200), at(2, 900));
    assert_eq!(b.told(), [Event::Consented { ours, published }]);
    let before = b.now;
    b.wake_for(Timer::Election);
    assert!(b.now >= before + secs(5), "not before the lapse");
    b.settle();
    let stood = b.told().into_iter().find(|event| matches!(event, Event::Stands { .. }));
    assert_eq!(stood, Some(Event::Stands { epoch: Epoch(3), right: Right::Consented, position: ours }));
    assert_eq!(b.role(), "primary");
    let replies: Vec<_> = b.replies().into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::SwitchedTo("b".into())]);
}

#[test]
fn a_switchover_that_was_refused_before_is_no_answer_to_a_failover() {
    let mut b = lagging();
    let (epoch, refused) = (Epoch(2), Some(Refusal::NoCandidate));
    b.news([Record::Switchover(Switchover { epoch, to: None, refused })]);
    assert_eq!(allow(&mut b, true), []);
    b.wake_for(Timer::Election);
    b.settle();
    assert_eq!(b.role(), "primary");
}

#[test]
fn a_holder_that_lives_is_not_replaced() {
    let mut b = lagging();
    allow(&mut b, true);
    for _ in 0..6 {
        b.news([beat(2, 900)]);
        b.pass(secs(4));
        b.input(primacy_core::Input::Wake);
    }
    assert_eq!(b.role(), "standby");
    let replies: Vec<_> = b.replies().into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::HolderLives]);
    b.pass(secs(30));
    b.input(primacy_core::Input::Wake);
    b.settle();
    assert_eq!(b.role(), "standby", "the consent is over");
}

#[test]
fn a_consent_is_for_the_loss_that_was_known() {
    let mut b = lagging();
    allow(&mut b, true);
    b.news([beat(2, 900)]);
    assert_eq!(b.replies(), [], "nothing was written since");
    b.news([beat(2, 901)]);
    let replies: Vec<_> = b.replies().into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::HolderLives]);
    b.pass(secs(6));
    b.input(primacy_core::Input::Wake);
    b.settle();
    assert_eq!(b.role(), "standby", "the consent is over");
}

#[test]
fn a_consent_stands_for_two_leases_where_these_are_long() {
    let mut store = nobody_listed();
    write(&mut store, [Record::Reign(Reign { ttl: secs(15), ..reign(2, "a") })]);
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), store, in_recovery(at(2, 200)));
    b.settle();
    allow(&mut b, true);
    for passed in (4..32).step_by(4) {
        assert_eq!(b.replies(), [], "after {passed} s");
        b.news([beat(2, 900)]);
        b.pass(secs(4));
        b.input(primacy_core::Input::Wake);
    }
    b.pass(secs(4));
    b.input(primacy_core::Input::Wake);
    let replies: Vec<_> = b.replies().into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::HolderLives]);
}

#[test]
fn who_goes_further_than_was_published_is_no_holder_that_has_gone_on() {
    let mut store = nobody_listed();
    write(&mut store, [beat(2, 150)]);
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), store, in_recovery(at(2, 200)));
    b.settle();
    allow(&mut b, true);
    b.wake_for(Timer::Election);
    b.settle_until("promoting");
    assert_eq!(b.replies(), []);
    b.settle();
    let replies: Vec<_> = b.replies().into_iter().map(|(_, reply)| reply).collect();
    assert_eq!(replies, [Reply::SwitchedTo("b".into())]);
}

#[test]
fn a_consent_is_for_one_reign_and_one_copy() {
    let mut b = lagging();
    allow(&mut b, true);
    b.news([
        Record::Reign(reign(3, "c")),
        Record::Epoch(epoch_record(3, "c", Some(fork_of(3)))),
        beat(3, 950),
    ]);
    b.pass(secs(6));
    b.input(primacy_core::Input::Wake);
    b.settle();
    assert_ne!(b.role(), "primary");
}

#[test]
fn who_can_not_lead_is_refused() {
    let refused = |config: Config, copy: Saved| {
        let mut b = Host::looked(config, copy, nobody_listed(), in_recovery(at(2, 200)));
        allow(&mut b, true) == [Reply::Refused(Refusal::NotEligible)]
    };
    let copy = saved("b", &[1, 2]);
    assert!(!refused(config("b"), copy.clone()));
    assert!(refused(Config { priority: 0, ..config("b") }, copy.clone()));
    let foreign = Saved { lineage: vec![(Epoch(1), nonce_of(1)), (Epoch(2), Nonce(21))], ..copy };
    assert!(refused(config("b"), foreign), "nobody could tell where it left");
    let mut beyond = Host::looked(config("b"), saved("b", &[1, 2]), nobody_listed(), in_recovery(at(3, 250)));
    beyond.ordered = None;
    assert_eq!(
        allow(&mut beyond, true),
        [Reply::Refused(Refusal::NotEligible)],
        "nobody knows whose WAL it has"
    );
    let mut stopped = Host::looked(config("b"), saved("b", &[1, 2]), nobody_listed(), stopped(at(2, 200)));
    assert_eq!(stopped.op(), Some(&Op::StartStandby));
    assert_eq!(allow(&mut stopped, true), [Reply::Refused(Refusal::NotEligible)]);

    let mut a = Host::primary();
    assert_eq!(allow(&mut a, true), [Reply::AlreadyPrimary]);
    let mut empty = Host::empty("b");
    empty.begin();
    assert_eq!(allow(&mut empty, true).len(), 1);
}
