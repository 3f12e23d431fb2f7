//! When a primary that does nothing any more is given up.

use crate::host::*;
use primacy_core::instance::{Failure, Found, Instance, Op};
use primacy_core::store::{Record, Released};
use primacy_core::{Command, Config, Event, Input, Span, Time, Timer};

/// How long a primary may be without a proof here.
const AGE: Span = secs(3);

/// A primary just proved to do its work, from which these members could take over.
fn primary(electable: &[&str]) -> Host {
    let mut a = Host::primary_with(Config { health_age: AGE, ..config("a") });
    a.news([Record::Rule(rule(2, "a", electable))]);
    let streams: Vec<(&str, u64)> = electable.iter().map(|name| (*name, 200)).collect();
    a.sees(writable(at(2, 200), &streams));
    a.settle();
    a.told();
    a
}

/// Keeps the lease until this moment.
fn beat_until(a: &mut Host, until: Time) {
    while let Some((time, why)) = a.node.deadline(a.now).filter(|(time, _)| *time < until) {
        a.wake_at(time);
        if why == Timer::Beat {
            let beat = a.beat();
            a.answer(&beat);
            a.acknowledge();
        }
    }
    a.now = until;
}

/// Nothing is heard of PostgreSQL for as long as it may be.
fn without_proof(mut a: Host) -> Host {
    let until = a.now + AGE;
    beat_until(&mut a, until);
    a.input(Input::Wake);
    a
}

#[test]
fn a_primary_without_a_proof_is_given_up_for_one_that_can_replace_it() {
    let mut a = primary(&["b"]);
    let proved = a.now;
    beat_until(&mut a, proved + AGE - us(1));
    a.input(Input::Wake);
    assert_eq!(a.op(), None);
    assert_eq!(a.node.deadline(a.now), Some((proved + AGE, Timer::Health)));
    a.wake_for(Timer::Health);
    assert_eq!(a.told(), [Event::PrimaryHangs { unproved: AGE }]);
    let kill = a.order();
    assert_eq!((a.role(), &kill.order.op), ("leaving", &Op::Kill));
    a.postgres = Instance::Stopped { data: data(at(2, 200)), clean: false, signal: false };
    a.failed(&kill, Failure::TimedOut);
    let release = a.beat();
    assert_eq!(release.reign().released, Some(Released { end: None, to: None }), "it didn't stop cleanly");
}

#[test]
fn each_look_that_finds_it_writable_is_a_proof() {
    let mut a = primary(&["b"]);
    let later = a.now + ms(2_100);
    beat_until(&mut a, later);
    a.sees(writable(at(2, 210), &[("b", 210)]));
    let later = later + AGE - us(1);
    beat_until(&mut a, later);
    a.input(Input::Wake);
    assert_eq!(a.role(), "primary");
    a.wake_for(Timer::Health);
    assert_eq!(a.role(), "leaving");
}

#[test]
fn an_agent_that_was_away_looks_once_more() {
    let mut a = primary(&["b"]);
    let thawed = a.fence() - secs(1) - us(1);
    assert!(thawed > a.now + AGE);
    a.wake_at(thawed);
    assert_eq!(a.role(), "primary", "PostgreSQL may have worked all the time");
    let beat = a.beat();
    a.answer(&beat);
    a.acknowledge();
    beat_until(&mut a, thawed + secs(1) - us(1));
    assert_eq!(a.role(), "primary");
    a.wake_for(Timer::Health);
    assert_eq!(a.role(), "leaving", "it has not been seen to work since either");

    let mut a = primary(&["b"]);
    let late = a.now + AGE + ms(500);
    beat_until(&mut a, late - AGE);
    let (due, _) = a.node.deadline(a.now).unwrap();
    a.wake_at(due + ms(500));
    assert!(a.node.deadline(a.now).is_some_and(|(time, _)| time <= late), "late, but not away");
}

#[test]
fn an_instance_that_can_not_be_looked_at_is_none() {
    let mut a = primary(&["b"]);
    a.input(Input::Instance(Found::NOTHING));
    let look = a.order();
    assert_eq!(look.order.op, Op::Look);
    a.postgres = Instance::Unknown;
    a.done(&look);
    let a = without_proof(a);
    assert_eq!(a.op(), Some(&Op::Kill), "in place of the look");
}

#[test]
fn nobody_is_given_up_who_can_not_be_replaced() {
    let mut a = without_proof(primary(&[]));
    assert_eq!((a.role(), a.op()), ("primary", None));
    assert!(
        a.node.deadline(a.now).is_none_or(|(_, why)| why != Timer::Health),
        "there is nothing to wait for"
    );
    a.sees(writable(at(2, 200), &[("b", 200)]));
    a.settle();
    assert_eq!(a.role(), "primary", "it was only slow");
    assert_eq!(without_proof(a).role(), "leaving");
}

#[test]
fn nor_by_a_list_of_another_reign() {
    let mut a = primary(&["b"]);
    let old = rule(1, "a", &["b"]);
    a.news([Record::Rule(old)]);
    a.asked.clear();
    let until = a.now + AGE;
    a.wake_at(until);
    assert_eq!(a.role(), "primary");
}

#[test]
fn with_an_age_of_zero_nobody_is_given_up() {
    let mut a = Host::primary_of(&[("b", 200)]);
    let until = a.now + secs(60);
    beat_until(&mut a, until);
    a.input(Input::Wake);
    assert_eq!((a.role(), a.op()), ("primary", None));
}

#[test]
fn what_is_being_ordered_fails_by_itself_if_it_hangs() {
    let mut a = primary(&["b"]);
    a.command(Command::Shutdown);
    let checkpoint = a.order();
    assert_eq!(checkpoint.order.op, Op::Checkpoint);
    let mut a = without_proof(a);
    assert_eq!((a.role(), a.op()), ("primary", None), "a checkpoint may take its time");
    a.done(&checkpoint);
    let stop = a.order();
    assert_eq!(stop.order.op, Op::Stop, "that it is done is a proof");
}

#[test]
fn a_primary_that_hangs_is_not_stopped_in_order() {
    let mut a = primary(&["b"]);
    a.command(Command::Shutdown);
    let checkpoint = a.order();
    let mut a = without_proof(a);
    a.postgres = Instance::Unknown;
    a.failed(&checkpoint, Failure::TimedOut);
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Kill));

    let mut alone = without_proof(primary(&[]));
    while alone.op().is_none() {
        let (time, _) = alone.node.deadline(alone.now).expect("the fence");
        alone.wake_at(time);
    }
    assert_eq!(alone.now, alone.fence() - secs(1));
    assert_eq!(alone.op(), Some(&Op::Kill), "nor when the fence is near");
}

#[test]
fn processes_that_died_are_started_again_however_old_the_proof_is() {
    let mut a = primary(&["b"]);
    let later = a.now + AGE - us(1);
    beat_until(&mut a, later);
    a.sees(stopped(at(2, 200)));
    let start = a.order();
    assert_eq!(start.order.op, Op::StartInPlace);
    let mut a = without_proof(a);
    assert_eq!(a.role(), "primary");
    a.postgres = writable(at(2, 200), &[]);
    a.done(&start);
    let until = a.now + AGE - us(1);
    beat_until(&mut a, until);
    assert_eq!(a.role(), "primary", "that it was started is a proof");
}

#[test]
fn the_lease_lapses_while_it_is_unknown_what_still_runs() {
    let mut a = without_proof(primary(&["b"]));
    a.told();
    let kill = a.order();
    a.postgres = Instance::Unknown;
    a.failed(&kill, Failure::TimedOut);
    let next = a.node.lease().map(|lease| lease.authority).unwrap() - secs(3);
    while a.now < next {
        let Some((time, _)) = a.node.deadline(a.now).filter(|(time, _)| *time < next) else { break };
        a.wake_at(time);
        assert_eq!(a.asked, [], "no beat");
        if a.ordered.is_some() {
            let kill = a.order();
            assert_eq!(kill.order.op, Op::Kill, "again and again");
            a.failed(&kill, Failure::TimedOut);
        }
    }
    a.pass_pause();
    let kill = a.order();
    a.postgres = stopped(at(2, 200));
    a.done(&kill);
    assert!(a.beat().reign().released.is_some(), "the lease is given back as soon as it is known");
}

#[test]
fn what_can_not_be_told_of_the_data_keeps_no_lease_once_all_is_killed() {
    let mut a = without_proof(primary(&["b"]));
    let kill = a.order();
    a.postgres = Instance::Unknown;
    a.done(&kill);
    let release = a.beat();
    assert_eq!(release.reign().released, Some(Released { end: None, to: None }));
    a.answer(&release);
    assert_eq!((a.role(), a.node.lease()), ("standby", None));
}
