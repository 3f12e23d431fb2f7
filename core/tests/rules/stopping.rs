//! How a member stops.

use crate::host::*;
use primacy_core::instance::{Failure, Foreign, Instance, Op};
use primacy_core::store::{News, Record, Refusal, Released, Switchover};
use primacy_core::{Command, Effect, Epoch, Event, Input, Lsn, Timer};

#[test]
fn a_primary_stops_in_order_then_gives_the_lease_back_then_exits() {
    let mut a = Host::primary();
    a.command(Command::Shutdown);
    let checkpoint = a.order();
    assert_eq!(checkpoint.order.op, Op::Checkpoint, "so that the stop is short");
    assert_eq!(a.role(), "primary");
    a.done(&checkpoint);
    let stop = a.order();
    assert_eq!((&stop.order.op, stop.order.until), (&Op::Stop, a.now + secs(60)));
    a.done(&stop);
    assert!(!a.exited);
    let release = a.beat();
    assert_eq!(
        release.reign().released,
        Some(Released { end: Some(Lsn(100)), to: None }),
        "to whoever comes first"
    );
    let effects = a.answer(&release);
    let told = [Event::Released { clean: true }, Event::Stopped].map(Effect::Tell);
    assert_eq!(effects[1..], [told[0].clone(), told[1].clone(), Effect::Exit]);
    assert_eq!(a.role(), "stopped");
}

#[test]
fn a_lease_is_not_given_back_while_a_process_may_be_left() {
    let mut a = Host::primary();
    let stop = a.shut_down();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    assert_eq!(beat.txn().put.len(), 1, "but it is kept");
    a.answer(&beat);
    a.failed(&stop, Failure::TimedOut);
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Stop), "again");
    assert!(!a.exited);
}

#[test]
fn what_is_ordered_last_proves_that_nothing_runs() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 100)));
    let start = a.order();
    a.news([Record::Reign(reign(3, "b")), Record::Epoch(epoch_record(3, "b", None))]);
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.postgres = writable(at(2, 100), &[]);
    assert_eq!(a.done(&start), [], "the kill has taken its place");
    assert_eq!(a.role(), "leaving", "the start may have come through");
    a.done(&kill);
    assert_eq!(a.role(), "standby");
}

#[test]
fn an_unclean_stop_is_not_told_as_a_clean_one() {
    let mut a = Host::primary();
    let stop = a.shut_down();
    a.postgres = Instance::Stopped { data: data(at(2, 100)), clean: false, signal: false };
    a.failed(&stop, Failure::TimedOut);
    let release = a.beat();
    assert_eq!(release.reign().released, Some(Released { end: None, to: None }));
}

#[test]
fn a_directory_that_has_gone_is_given_back_as_unclean() {
    for found in [Instance::Absent, Instance::Incomplete] {
        let mut a = Host::primary();
        a.sees(found);
        let kill = a.order();
        a.done(&kill);
        assert_eq!(a.beat().reign().released, Some(Released { end: None, to: None }));
    }
}

#[test]
fn a_directory_that_became_foreign_is_not_given_back() {
    let mut a = Host::primary();
    a.sees(Instance::Foreign(Foreign::RunsElsewhere));
    let kill = a.order();
    a.done(&kill);
    assert_eq!(a.asked, [], "who knows what runs there");
    a.wake_at(a.fence());
    a.settle();
    assert_eq!(a.role(), "frozen");
}

/// A primary whose agent is to stop, its release, which the store has taken, and the news of it.
fn released() -> (Host, Asked, Input) {
    let mut a = Host::primary();
    let stop = a.shut_down();
    a.done(&stop);
    let release = a.beat();
    let revision = a.apply(&release).expect("applied");
    let news = News::Changed(revision, vec![Record::Reign(release.reign().clone())]);
    (a, release, Input::News(news))
}

#[test]
fn a_lease_is_given_back_once() {
    let (mut a, _, news) = released();
    a.input(news);
    assert_eq!(a.asked, []);
    assert!(a.exited);
}

#[test]
fn no_beat_follows_a_release_whose_answer_was_lost() {
    let (mut a, release, news) = released();
    a.unknown(&release);
    a.pass(secs(1));
    a.input(news);
    assert_eq!(a.asked, [], "whoever stands next would be refused");
    assert!(a.exited);
}

#[test]
fn a_holder_that_does_not_know_how_its_postgresql_is_waits() {
    let mut a = Host::primary();
    let stop = a.shut_down();
    a.postgres = Instance::Unknown;
    a.failed(&stop, Failure::TimedOut);
    assert_eq!((a.role(), a.exited), ("leaving", false));
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Kill), "to be sure");
}

#[test]
fn what_is_not_writable_is_not_stopped_in_order() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 100)));
    let start = a.order();
    a.failed(&start, Failure::TimedOut);
    a.wake_at(a.fence() - secs(1));
    assert_eq!(a.op(), Some(&Op::Kill));
}

#[test]
fn a_shutdown_comes_after_a_wish_that_was_there_before() {
    let mut a = Host::primary_of(&[("b", 200)]);
    a.news([Record::Switchover(Switchover { epoch: Epoch(2), to: None, refused: None })]);
    a.command(Command::Shutdown);
    assert_eq!(a.op(), Some(&Op::Checkpoint));
    let checkpoint = a.order();
    a.done(&checkpoint);
    a.settle();
    let to = a.store.reign.as_ref().and_then(|reign| reign.released.as_ref()?.to.clone());
    assert_eq!(to, Some("b".into()));
    assert!(a.exited);
}

#[test]
fn a_shutdown_does_not_wait_for_a_wish_that_was_refused() {
    let mut a = Host::primary();
    let refused = Some(Refusal::NoCandidate);
    a.news([Record::Switchover(Switchover { epoch: Epoch(2), to: None, refused })]);
    assert_eq!(a.shut_down().order.op, Op::Stop);
}

#[test]
fn a_standby_stops_in_order_then_exits() {
    let mut b = Host::standby();
    let effects = b.command(Command::Shutdown);
    let stop = b.order();
    assert_eq!(effects.len(), 1);
    assert_eq!(stop.order.op, Op::Stop);
    assert_eq!(b.done(&stop), [Effect::Tell(Event::Stopped), Effect::Exit]);
    assert_eq!(b.input(primacy_core::Input::Wake), [], "that was all");
}

#[test]
fn a_member_that_exits_starts_nothing() {
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), reign_of_a(2), stopped(at(2, 200)));
    b.command(Command::Shutdown);
    b.settle();
    assert!(b.exited, "it has looked first");
    assert!(!b.postgres.runs());
}

#[test]
fn what_is_writable_without_the_lease_is_killed_before_the_exit() {
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), reign_of_a(2), writable(at(2, 200), &[]));
    b.command(Command::Shutdown);
    let look = b.order();
    b.done(&look);
    assert_eq!(b.op(), Some(&Op::Kill));
    b.settle();
    assert!(b.exited);
}

#[test]
fn an_order_under_way_is_ended_before_the_exit() {
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), reign_of_a(2), stopped(at(2, 200)));
    b.input(primacy_core::Input::Wake);
    let (look, read) = (b.order(), b.read());
    b.done(&look);
    b.answer(&read);
    assert_eq!(b.op(), Some(&Op::StartStandby));
    b.command(Command::Shutdown);
    assert_eq!(b.op(), Some(&Op::Kill));
    assert!(!b.exited);
    b.settle();
    assert!(b.exited);
}

#[test]
fn who_asks_for_a_reign_waits_for_one_answer_and_no_longer() {
    let mut a = Host::last_leader(config("a"));
    a.settle_until("claiming");
    a.command(Command::Shutdown);
    assert_eq!(a.role(), "claiming", "it may have won");
    let claim = a.claim();
    a.unknown(&claim);
    let stop = a.order();
    assert_eq!(stop.order.op, Op::Stop);
    a.done(&stop);
    assert!(a.exited);
}

#[test]
fn a_member_without_data_just_exits() {
    let mut b = Host::new(config("b"), Default::default(), Default::default(), Instance::Absent);
    b.input(primacy_core::Input::Wake);
    let look = b.order();
    b.done(&look);
    b.command(Command::Shutdown);
    assert!(b.exited);
}

#[test]
fn a_frozen_member_keeps_its_standby_until_it_is_to_exit() {
    let mut b = Host::standby();
    b.store = Default::default();
    b.input(primacy_core::Input::News(primacy_core::store::News::Interrupted));
    b.settle();
    assert_eq!(b.role(), "frozen");
    assert!(b.postgres.runs());
    assert_eq!(b.op(), None);
    b.command(Command::Shutdown);
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    b.done(&stop);
    assert!(b.exited);
}

#[test]
fn a_frozen_member_kills_what_is_writable() {
    let mut b = Host::standby();
    b.store = Default::default();
    b.input(primacy_core::Input::News(primacy_core::store::News::Interrupted));
    b.settle();
    b.sees(writable(at(2, 200), &[]));
    assert_eq!(b.op(), Some(&Op::Kill));
}

#[test]
fn a_primary_that_dies_while_its_agent_is_to_stop_is_not_started_again() {
    let mut a = Host::primary();
    a.command(Command::Shutdown);
    let checkpoint = a.order();
    a.postgres = Instance::Stopped { data: data(at(2, 200)), clean: false, signal: false };
    a.failed(&checkpoint, Failure::TimedOut);
    a.settle();
    assert_eq!(
        a.store.reign.as_ref().and_then(|reign| reign.released.clone()).map(|left| left.end),
        Some(None)
    );
    assert!(a.exited);
}

/// Asks to end a standby that can't be looked at any more.
fn blind() -> Host {
    let mut b = Host::standby();
    b.sees(Instance::Unknown);
    b.command(Command::Shutdown);
    b
}

#[test]
fn who_can_not_be_looked_at_is_killed_before_the_agent_exits() {
    let mut b = blind();
    let look = b.order();
    assert_eq!(look.order.op, Op::Look);
    b.postgres = Instance::Unknown;
    b.done(&look);
    assert!(!b.exited);
    b.pass_pause();
    let kill = b.order();
    assert_eq!(kill.order.op, Op::Kill, "that was tried once");
    b.failed(&kill, Failure::TimedOut);
    b.pass_pause();
    assert!(!b.exited, "something may be left");
    let kill = b.order();
    b.done(&kill);
    assert!(b.exited, "nothing is left, whatever it was");
}

#[test]
fn a_look_that_succeeds_lets_it_stop_in_order() {
    let mut b = blind();
    let look = b.order();
    b.postgres = in_recovery(at(2, 200));
    b.done(&look);
    assert_eq!(b.op(), Some(&Op::Stop));
}

#[test]
fn a_holder_that_lost_its_lease_and_sees_nothing_is_down_once_all_was_killed() {
    let mut a = Host::primary();
    a.news([Record::Reign(reign(3, "b"))]);
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.postgres = Instance::Unknown;
    a.failed(&kill, Failure::TimedOut);
    assert_eq!(a.role(), "leaving");
    a.pass_pause();
    let kill = a.order();
    a.done(&kill);
    assert_eq!(a.role(), "standby");
}

#[test]
fn what_was_tried_before_it_was_seen_again_does_not_count() {
    let mut b = blind();
    let look = b.order();
    b.postgres = Instance::Unknown;
    b.done(&look);
    b.pass_pause();
    let kill = b.order();
    b.postgres = in_recovery(at(2, 200));
    b.failed(&kill, Failure::TimedOut);
    b.pass_pause();
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    b.postgres = Instance::Unknown;
    b.failed(&stop, Failure::TimedOut);
    assert!(!b.exited);
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::Kill), "the failed stop has found nothing out");
}

#[test]
fn what_was_killed_and_is_out_of_sight_since_is_gone() {
    let mut b = Host::standby();
    b.sees(Instance::Unknown);
    b.input(primacy_core::Input::Guard(primacy_core::Guard::Lost));
    let kill = b.order();
    assert_eq!(kill.order.op, Op::Kill);
    b.postgres = Instance::Unknown;
    b.done(&kill);
    b.sees(Instance::Unknown);
    b.command(Command::Shutdown);
    assert!(b.exited);
}
