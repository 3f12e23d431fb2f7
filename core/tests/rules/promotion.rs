//! How a standby becomes writable, and stays so.

use crate::host::*;
use primacy_core::instance::{Failure, Instance, Op};
use primacy_core::store::{Key, Record, Reign, Released};
use primacy_core::{Command, Epoch, Event, Guard, Input, Timer};

/// `a`, elected for epoch 2, with an order to promote that awaits its answer.
fn promoting() -> Host {
    let mut a = Host::elected();
    a.acknowledge();
    assert_eq!(a.op(), Some(&Op::Promote));
    a
}

/// The reign as `a` has given it back.
fn released(a: &Host) -> Released {
    let reign: &Reign = a.store.reign.as_ref().expect("a reign");
    reign.released.clone().expect("given back")
}

#[test]
fn what_a_person_promotes_under_an_armed_guard_is_not_led_from() {
    let mut a = Host::elected();
    assert_eq!(a.op(), None, "its guard hasn't answered");
    a.sees(writable(at(2, 101), &[]));
    assert!(a.told().contains(&Event::UnorderedPromotion { position: at(2, 101) }));
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.done(&kill);
    a.settle();
    assert_eq!(released(&a).end, None);
    assert_eq!((a.role(), a.op()), ("standby", None), "a person has to look at it");
    assert_eq!(a.store.epochs[&Epoch(2)].fork, None);
}

#[test]
fn a_promotion_makes_a_primary_once_its_rule_and_its_place_in_the_history_are_written() {
    let mut a = promoting();
    let promote = a.order();
    a.done(&promote);
    assert_eq!(a.role(), "promoting");
    assert!(!a.node.is_primary(a.now), "nobody follows it yet");
    let beat = a.beat();
    let keys: Vec<_> = beat.txn().put.iter().map(Record::key).collect();
    assert_eq!(keys, [Key::Beat, Key::Rule, Key::Epoch(Epoch(2))]);
    a.answer(&beat);
    assert_eq!(a.store.epochs[&Epoch(2)].fork, Some(at(1, 100)));
    assert_eq!(a.told(), [Event::Leads { epoch: Epoch(2), fork: at(1, 100) }]);
    assert!(a.node.is_primary(a.now));
}

#[test]
fn a_primary_writes_down_forks_of_its_history_that_earlier_holders_could_not() {
    let mut store = reign_of_a(3);
    for record in
        [epoch_record(1, "a", Some(fork_of(1))), epoch_record(2, "b", None), epoch_record(3, "a", None)]
    {
        write(&mut store, [Record::Epoch(record)]);
    }
    let mut a = Host::new(config("a"), saved("a", &[1, 2, 3]), store, stopped(at(3, 300)));
    a.begin();
    assert_eq!(a.role(), "primary");
    let forks: Vec<_> = a.store.epochs.values().map(|record| record.fork).collect();
    let own = Some(at(3, 300));
    assert_eq!(forks, [Some(fork_of(1)), Some(fork_of(2)), Some(fork_of(3)), own]);
}

#[test]
fn a_fork_of_a_reign_with_another_mark_is_not_written() {
    let mut store = reign_of_a(3);
    write(&mut store, [Record::Epoch(epoch_record(2, "b", None))]);
    let mut past = saved("a", &[1, 2, 3]);
    past.lineage[1].1.0 += 1;
    let mut a = Host::new(config("a"), past, store, stopped(at(3, 300)));
    a.begin();
    assert_eq!(a.role(), "primary");
    assert_eq!(a.store.epochs[&Epoch(2)].fork, None);
}

#[test]
fn a_promotion_onto_another_timeline_is_killed() {
    let mut a = promoting();
    let promote = a.order();
    a.postgres = writable(at(3, 100), &[]);
    a.failed(&promote, Failure::WrongTimeline);
    assert_eq!(a.role(), "leaving");
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Kill));
}

#[test]
fn a_timeline_that_is_not_the_epochs_is_killed_whoever_promoted() {
    let mut a = Host::elected();
    a.sees(writable(at(3, 100), &[]));
    assert_eq!(a.told(), [Event::WrongTimeline { found: Epoch(3), wanted: Epoch(2) }]);
    assert_eq!(a.op(), Some(&Op::Kill));
}

#[test]
fn a_failed_promotion_is_given_up_and_the_lease_is_given_back() {
    let mut a = promoting();
    let promote = a.order();
    a.failed(&promote, Failure::TimedOut);
    assert_eq!(a.told()[0], Event::PrimaryGivenUp);
    a.pass_pause();
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.done(&kill);
    let release = a.beat();
    a.answer(&release);
    assert_eq!(released(&a), Released { end: None, to: None }, "not a clean end");
    assert_eq!(a.node.lease(), None);
    assert_eq!(a.told().last(), Some(&Event::Released { clean: false }));
}

#[test]
fn a_promotion_that_came_too_late_to_begin_is_ordered_again() {
    let mut a = promoting();
    let promote = a.order();
    a.failed(&promote, Failure::TooLate);
    assert_eq!((a.role(), a.op()), ("promoting", None));
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Promote));
}

#[test]
fn who_is_to_be_promoted_and_finds_nothing_to_promote_gives_up() {
    for found in [stopped(at(1, 100)), Instance::Absent, Instance::Incomplete] {
        let mut a = Host::elected();
        a.sees(found);
        assert_eq!(a.told()[0], Event::PrimaryGivenUp);
        assert_eq!(a.role(), "leaving");
    }
}

#[test]
fn an_agent_that_is_to_stop_gives_the_lease_back_instead_of_promoting() {
    let mut a = promoting();
    a.acknowledge();
    a.command(Command::Shutdown);
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.postgres = Instance::Stopped { data: data(at(1, 100)), clean: false, signal: true };
    a.failed(&kill, Failure::TimedOut);
    let release = a.beat();
    assert_eq!(release.reign().released, Some(Released { end: None, to: None }));
}

#[test]
fn the_first_timeline_is_not_promoted_from_anything() {
    let mut a = Host::empty("a");
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("promoting");
    a.sees(in_recovery(at(1, 50)));
    assert_eq!(a.role(), "leaving");
}

#[test]
fn a_directory_that_became_foreign_is_not_promoted() {
    let mut a = Host::elected();
    a.sees(Instance::Foreign(primacy_core::instance::Foreign::RunsElsewhere));
    assert_eq!(a.role(), "leaving");
}

#[test]
fn who_is_to_be_promoted_and_does_not_know_its_postgresql_looks() {
    let mut a = Host::elected();
    a.sees(Instance::Unknown);
    assert_eq!(a.op(), Some(&Op::Look));
}

#[test]
fn a_crashed_primary_is_started_again_in_place_under_the_same_lease() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 100)));
    assert_eq!(a.told(), [Event::PrimaryDied { restart: 1 }]);
    let start = a.order();
    assert_eq!(start.order.op, Op::StartInPlace);
    assert_eq!((start.order.epoch, start.order.start_by), (Epoch(2), a.fence()));
    a.sees(stopped(at(2, 100)));
    assert_eq!(a.told(), [], "once is enough");
    a.done(&start);
    assert!(a.node.is_primary(a.now));
}

#[test]
fn after_three_restarts_in_a_reign_the_lease_is_given_back() {
    let mut a = Host::primary();
    for restart in 1..=3 {
        a.sees(stopped(at(2, 100)));
        assert_eq!(a.told(), [Event::PrimaryDied { restart }]);
        a.settle();
        assert_eq!(a.role(), "primary");
    }
    a.sees(stopped(at(2, 100)));
    assert_eq!(a.told()[0], Event::PrimaryGivenUp);
    assert_eq!(a.node.lease().map(|lease| lease.epoch), Some(Epoch(2)), "until it is written");
    a.settle_until("standby");
    assert!(released(&a).end.is_some(), "somebody has shut it down in order");
}

#[test]
fn a_start_in_place_that_fails_is_tried_again() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 100)));
    let start = a.order();
    a.told();
    a.failed(&start, Failure::TimedOut);
    assert_eq!((a.role(), a.op()), ("primary", None));
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::StartInPlace));
    assert_eq!(a.told().last(), Some(&Event::PrimaryDied { restart: 2 }));
}

#[test]
fn a_primary_that_is_found_to_be_something_else_gives_up() {
    let foreign = Instance::Foreign(primacy_core::instance::Foreign::NotPostgres);
    let found =
        [in_recovery(at(2, 100)), writable(at(3, 100), &[]), Instance::Absent, Instance::Incomplete, foreign];
    for instance in found {
        let mut a = Host::primary();
        a.sees(instance.clone());
        assert_eq!(a.told()[0], Event::PrimaryGivenUp, "{instance:?}");
        assert_eq!(a.role(), "leaving");
    }
}

#[test]
fn a_primary_that_does_not_know_its_postgresql_looks() {
    let mut a = Host::primary();
    a.sees(Instance::Unknown);
    assert_eq!((a.role(), a.op()), ("primary", Some(&Op::Look)));
}

#[test]
fn the_end_in_a_beat_is_that_of_the_wal_even_while_postgresql_is_down() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 123)));
    a.wake_for(Timer::Beat);
    assert_eq!(a.beat().txn().put, [beat(2, 123)]);
}
