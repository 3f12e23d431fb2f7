//! Whose WAL is taken, and what is done with a copy that doesn't fit.

use crate::host::*;
use primacy_core::event::Frozen;
use primacy_core::instance::{Data, Failure, Foreign, Instance, Op, Saved};
use primacy_core::store::{Initialize, News, Pledge, Record, Reign, Released, View};
use primacy_core::{Boot, Config, CopyId, Epoch, Event, Guard, Input, Nonce, Position, SystemId};
use std::sync::Arc;

/// `b` with this copy, after its first look at a store and at its PostgreSQL; copies aren't rewound.
fn looked(saved: Saved, store: View, postgres: Instance) -> Host {
    Host::looked(Config { rewind: false, ..config("b") }, saved, store, postgres)
}

/// What is said of a copy that is one byte too long.
fn not_contained() -> Event {
    Event::NotContained { epoch: Epoch(2), position: at(1, 101), left: Some(at(1, 100)) }
}

fn released() -> Record {
    Record::Reign(Reign { released: Some(Released { end: None, to: None }), ..reign(2, "a") })
}

#[test]
fn a_copy_that_is_contained_starts_in_recovery_and_then_follows_the_holder() {
    let mut b = looked(saved("b", &[1, 2]), reign_of_a(2), stopped(at(2, 150)));
    let start = b.order();
    assert_eq!(start.order.op, Op::StartStandby);
    b.done(&start);
    assert_eq!(b.told(), [Event::Follows { source: "a".into(), epoch: Epoch(2) }]);
    let follow = b.order();
    assert_eq!(follow.order.op, Op::Follow("a".into()));
    b.done(&follow);
    assert_eq!(b.op(), None);
}

#[test]
fn a_reign_is_in_the_lineage_before_its_first_byte_can_arrive() {
    let mut b = looked(saved("b", &[1]), reign_of_a(2), in_recovery(at(1, 100)));
    let follow = b.order();
    assert_eq!(follow.order.op, Op::Follow("a".into()));
    assert_eq!(follow.order.saved, saved("b", &[1, 2]));
    assert_eq!(b.node.saved(), &saved("b", &[1, 2]));
    b.failed(&follow, Failure::TimedOut);
    b.pass_pause();
    assert_eq!(b.order().order.saved, saved("b", &[1, 2]), "and only once");
}

#[test]
fn reigns_that_came_and_went_while_a_member_was_away_do_not_part_it_from_the_history() {
    let mut b = looked(saved("b", &[1]), reign_of_a(3), in_recovery(at(1, 100)));
    let follow = b.order();
    assert_eq!(follow.order.op, Op::Follow("a".into()));
    assert_eq!(follow.order.saved, saved("b", &[1, 2, 3]), "its WAL of epoch 2 comes from here, too");
    b.done(&follow);
    let source = Some(("a".into(), Epoch(3)));
    b.sees(Instance::Standby {
        data: data(at(3, 250)),
        source,
        streaming: true,
        ready: true,
        starved: false,
    });
    assert_eq!((b.op(), b.node.saved()), (None, &saved("b", &[1, 2, 3])));
}

#[test]
fn a_source_that_sent_nothing_does_not_part_a_copy_from_the_history_later_on() {
    let mut store = reign_of_a(3);
    write(&mut store, [Record::Epoch(epoch_record(4, "a", Some(at(2, 230)))), Record::Reign(reign(4, "a"))]);
    let mut data = data(at(4, 250));
    Arc::make_mut(&mut data.forks).remove(&Epoch(3));
    let found = Instance::Stopped { data, clean: true, signal: true };
    let b = looked(saved("b", &[1, 2, 3, 4]), store, found);
    assert_eq!(b.op(), Some(&Op::StartStandby));
}

#[test]
fn a_copy_that_went_past_the_fork_is_moved_aside_and_made_anew() {
    let mut b = looked(saved("b", &[1]), reign_of_a(2), stopped(at(1, 101)));
    assert_eq!(b.told(), [not_contained()]);
    let aside = b.order();
    assert_eq!(aside.order.op, Op::SetAside);
    b.input(Input::Wake);
    assert_eq!(b.told(), [], "said once");
    assert_eq!(aside.order.saved, Saved { highest: Epoch(1), ..Saved::default() });
    b.done(&aside);
    assert_eq!(b.node.saved().copy, CopyId(0), "there is no copy now");
    let copy = b.order();
    assert_eq!(copy.order.op, Op::Clone("a".into()));
    let new = copy.order.saved.clone();
    assert_eq!(new.lineage, [(Epoch(1), nonce_of(1)), (Epoch(2), nonce_of(2))]);
    assert_eq!(new.highest, Epoch(2));
    assert!(new.copy != CopyId(0) && new.copy != copy_of("b"), "a copy of its own");
    b.done(&copy);
    b.settle();
    assert_eq!(b.node.saved(), &new);
    assert_eq!(b.store.members[&"b".into()].copy, new.copy, "and says so");
}

#[test]
fn a_copy_is_stopped_before_it_is_moved_aside() {
    let mut b = looked(saved("b", &[1]), reign_of_a(2), in_recovery(at(1, 101)));
    let stop = b.order();
    assert_eq!(stop.order.op, Op::Stop);
    assert_eq!(b.told(), []);
    b.done(&stop);
    assert_eq!(b.told(), [not_contained()]);
    let aside = b.order();
    assert_eq!((&aside.order.op, aside.order.left), (&Op::SetAside, Some(at(1, 100))));
    b.failed(&aside, Failure::TimedOut);
    b.told();
    b.input(Input::Wake);
    assert_eq!(b.told(), [], "nor during the pause");
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::SetAside));
    assert_eq!(b.told(), [not_contained()], "with the next attempt");
}

#[test]
fn while_no_verified_primary_is_in_sight_nothing_is_moved_aside() {
    let unsure = |record: Record| {
        let mut store = reign_of_a(2);
        write(&mut store, [record]);
        let mut b = looked(saved("b", &[1]), store, stopped(at(1, 101)));
        let start = b.order();
        assert_eq!(start.order.op, Op::StartStandby);
        b.done(&start);
        b.settle();
        assert!(matches!(b.postgres, Instance::Standby { source: None, .. }), "{:?}", b.postgres);
    };
    unsure(Record::Epoch(epoch_record(2, "a", None)));
    unsure(released());
    unsure(Record::Reign(reign(2, "b")));
}

#[test]
fn wal_of_a_lower_reign_than_was_ever_seen_is_not_taken() {
    let mut past = saved("b", &[1, 2]);
    past.highest = Epoch(3);
    let mut b = Host::new(config("b"), past, reign_of_a(2), in_recovery(at(2, 150)));
    b.begin();
    assert!(matches!(b.postgres, Instance::Standby { source: None, .. }));
}

#[test]
fn a_source_that_isnt_the_present_holder_is_changed() {
    let follows = |source: Option<(&str, u32)>| {
        let source = source.map(|(name, epoch)| (name.into(), Epoch(epoch)));
        let standby = Instance::Standby {
            data: data(at(2, 150)),
            source,
            streaming: true,
            ready: true,
            starved: false,
        };
        looked(saved("b", &[1, 2]), reign_of_a(2), standby).op().is_some()
    };
    assert!(!follows(Some(("a", 2))));
    assert!(follows(Some(("a", 1))), "told so in an earlier reign");
    assert!(follows(Some(("c", 2))));
    assert!(follows(None));
}

#[test]
fn a_pledge_about_the_present_reign_is_withdrawn_before_wal_is_taken() {
    let asked = |held: bool, epoch: u32| {
        let mut store = reign_of_a(2);
        write(&mut store, [Record::Pledge(Pledge { held, ..pledge("b", epoch, at(2, 150)) })]);
        let mut b = looked(saved("b", &[1, 2]), store, in_recovery(at(2, 150)));
        if b.op().is_some() {
            return false;
        }
        let withdrawal = b.write();
        let withdrawn = Pledge { held: false, ..pledge("b", epoch, at(2, 150)) };
        assert_eq!(withdrawal.txn().put, [Record::Pledge(withdrawn)]);
        b.answer(&withdrawal);
        assert_eq!(b.op(), Some(&Op::Follow("a".into())));
        true
    };
    assert!(asked(true, 2));
    assert!(asked(true, 3));
    assert!(!asked(true, 1), "an earlier election is over");
    assert!(!asked(false, 2));
}

#[test]
fn a_timeline_that_postgresql_followed_by_itself_is_learnt() {
    let b = looked(saved("b", &[1]), reign_of_a(2), in_recovery(at(2, 150)));
    assert_eq!(b.node.saved(), &saved("b", &[1, 2]));
    assert_eq!(b.op(), Some(&Op::Follow("a".into())));
}

#[test]
fn a_timeline_is_not_learnt_from_a_view_that_may_be_old() {
    let mut b = Host::standby();
    b.written([
        Record::Reign(reign(3, "a")),
        Record::Epoch(epoch_record(3, "a", Some(fork_of(3)))),
        beat(3, 300),
    ]);
    b.sees(Instance::Standby {
        data: data(at(3, 300)),
        source: Some(("a".into(), Epoch(2))),
        streaming: true,
        ready: true,
        starved: false,
    });
    assert_eq!(b.node.saved(), &saved("b", &[1, 2]));
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.node.saved(), &saved("b", &[1, 2, 3]), "WAL of an epoch it hasn't heard of: it asks first");
}

#[test]
fn a_stopped_copy_with_wal_of_an_unheard_epoch_waits_for_the_store() {
    let mut b = Host::standby();
    b.pass(secs(1));
    b.sees(stopped(at(3, 300)));
    b.read();
    assert_eq!(b.op(), None);
    let mut b = Host::standby();
    b.input(Input::News(News::Interrupted));
    b.sees(stopped(at(2, 200)));
    assert_eq!(b.op(), Some(&Op::StartStandby), "one whose epoch is known has not to");
}

/// `b`, which somebody has promoted to timeline 3 while `a` reigns in epoch 2.
fn by_hand(signal: bool) -> Instance {
    Instance::Stopped { data: data(at(3, 210)), clean: true, signal }
}

#[test]
fn what_is_writable_without_the_lease_is_killed() {
    let mut b = Host::standby();
    b.sees(writable(at(3, 210), &[]));
    assert_eq!(b.told(), [Event::UnorderedPromotion { position: at(3, 210) }]);
    assert_eq!(b.op(), Some(&Op::Kill));
    b.input(Input::Wake);
    assert_eq!(b.told(), [], "said once");
}

#[test]
fn a_copy_promoted_by_hand_is_marked_for_good_and_replaced_if_there_is_a_primary() {
    let mut b = Host::standby();
    b.sees(writable(at(3, 210), &[]));
    assert_eq!(b.node.saved().lineage.last(), Some(&(Epoch(3), Nonce(0))));
    assert_eq!(b.node.needs_operator(), Some(Frozen::PromotedByHand));
    b.settle();
    assert_eq!(b.node.needs_operator(), None);
    assert_ne!(b.node.saved().copy, copy_of("b"), "a new copy");
}

#[test]
fn a_copy_promoted_by_hand_that_nobody_replaces_stays_down() {
    let mut store = reign_of_a(2);
    write(&mut store, [released()]);
    let mut b = Host::new(config("b"), saved("b", &[1, 2]), store, by_hand(false));
    b.begin();
    assert!(!b.postgres.runs());
    assert_eq!(
        b.node.needs_operator(),
        Some(Frozen::PromotedByHand),
        "it may be the only one that goes so far"
    );
}

#[test]
fn a_missing_signal_file_betrays_a_promotion_that_nobody_saw() {
    let marked = |instance: Instance| {
        let mut store = reign_of_a(2);
        write(&mut store, [released()]);
        looked(saved("b", &[1, 2]), store, instance).node.needs_operator().is_some()
    };
    assert!(marked(by_hand(false)));
    assert!(!marked(by_hand(true)), "it was a standby");
}

#[test]
fn a_promotion_by_hand_to_the_number_of_a_reign_that_it_was_to_follow_later_is_marked() {
    let marks = |holder: &str, lineage: &[u32], position: Position| {
        let mut store = reign_of_a(3);
        write(&mut store, [Record::Epoch(epoch_record(3, holder, Some(fork_of(3))))]);
        let found = Instance::Stopped { data: data(position), clean: false, signal: false };
        let node = looked(saved("b", lineage), store, found).node;
        node.saved().lineage.iter().map(|(_, nonce)| nonce.0).collect::<Vec<_>>()
    };
    assert_eq!(marks("a", &[1, 2, 3], at(2, 110)), [10, 0, 30], "it was ordered to follow epoch 3");
    assert_eq!(marks("a", &[1, 3], at(2, 110)), [10, 0, 30], "nobody knew of that timeline");
    assert_eq!(marks("b", &[1, 2, 3], at(2, 110)), [10, 20, 30], "its own promotion ended half-way");
}

#[test]
fn a_promotion_by_hand_to_the_number_of_anothers_reign_is_marked_as_well() {
    let at_two = |holder: &str, lineage: &[u32]| {
        let mut store = reign_of_a(2);
        write(&mut store, [Record::Epoch(epoch_record(2, holder, Some(fork_of(2)))), released()]);
        let found = Instance::Stopped { data: data(at(2, 200)), clean: true, signal: false };
        looked(saved("b", lineage), store, found).node.saved().lineage.last().copied()
    };
    assert_eq!(at_two("a", &[1, 2]), Some((Epoch(2), Nonce(0))), "b never led it");
    assert_eq!(at_two("b", &[1, 2]), Some((Epoch(2), nonce_of(2))), "b did");
    let mut unknown = looked(saved("b", &[1, 2]), reign_of_a(1), stopped(at(1, 100)));
    unknown.ordered = None;
    assert_eq!(unknown.node.saved(), &saved("b", &[1, 2]));
}

#[test]
fn a_member_without_data_copies_a_verified_holder() {
    let mut b = looked(Saved::default(), reign_of_a(2), Instance::Absent);
    assert_eq!(b.role(), "vacant");
    let copy = b.order();
    assert_eq!(copy.order.op, Op::Clone("a".into()));
    assert_eq!(copy.order.until, b.now + secs(24 * 3_600));
    b.done(&copy);
    b.settle();
    assert_eq!(b.role(), "standby");
    assert!(matches!(b.postgres, Instance::Standby { source: Some(_), .. }));
}

#[test]
fn a_copy_is_not_what_it_becomes_before_it_is_done() {
    let mut b = looked(Saved::default(), reign_of_a(2), Instance::Absent);
    let copy = b.order();
    b.postgres = Instance::Incomplete;
    b.failed(&copy, Failure::TimedOut);
    assert_eq!(b.node.saved(), &Saved { highest: Epoch(2), ..Saved::default() });
    b.pass_pause();
    assert_eq!(b.op(), Some(&Op::SetAside), "what is there is no copy");
    b.settle();
    assert_ne!(b.node.saved().copy, copy.order.saved.copy, "each has a mark of its own");
    assert_eq!(b.role(), "standby");
}

#[test]
fn nobody_is_copied_whose_history_is_not_verified_or_who_has_given_it_back() {
    for record in [Record::Epoch(epoch_record(2, "a", None)), released()] {
        let mut store = reign_of_a(2);
        write(&mut store, [record]);
        let b = looked(Saved::default(), store, Instance::Absent);
        assert_eq!((b.op(), b.node.deadline(b.now)), (None, None));
    }
}

#[test]
fn nothing_is_copied_while_the_store_may_say_something_else() {
    let mut b = Host::new(config("b"), Saved::default(), reign_of_a(2), Instance::Absent);
    b.input(Input::Guard(Guard::Idle));
    let (look, read) = (b.order(), b.read());
    b.answer(&read);
    b.input(Input::News(News::Interrupted));
    b.done(&look);
    assert_eq!((b.role(), b.op()), ("vacant", None));
    b.settle();
    assert_eq!(b.role(), "standby");
}

#[test]
fn an_incomplete_directory_is_moved_aside_in_any_role() {
    let mut b = looked(Saved::default(), reign_of_a(2), Instance::Incomplete);
    assert_eq!((b.role(), b.op()), ("standby", Some(&Op::SetAside)));
    b.settle();
    assert_eq!(b.role(), "standby");
    let mut b = Host::standby();
    b.sees(Instance::Unknown);
    assert_eq!(b.op(), Some(&Op::Look));
}

/// A copy of another cluster.
fn of_another_cluster(position: primacy_core::Position) -> Instance {
    let data = Data { system: SystemId(78), ..data(position) };
    Instance::Stopped { data, clean: true, signal: true }
}

#[test]
fn data_of_another_cluster_is_not_touched() {
    let mut b = looked(saved("b", &[1, 2]), reign_of_a(2), of_another_cluster(at(2, 150)));
    let why = Frozen::OtherSystem { ours: SystemId(78), clusters: SYSTEM };
    assert_eq!(b.told(), [Event::Froze { why }]);
    assert_eq!((b.role(), b.op()), ("frozen", None));
    assert_eq!(b.node.needs_operator(), Some(why));
}

#[test]
fn a_directory_made_for_a_bootstrap_that_another_won_is_moved_aside() {
    let made = Saved { copy: copy_of("b"), ..Saved::default() };
    let mut b = looked(made.clone(), reign_of_a(2), of_another_cluster(at(1, 50)));
    assert_eq!(b.op(), Some(&Op::SetAside), "nothing can be lost with it");
    b.settle();
    assert_eq!(b.role(), "standby");

    let mut unverified = reign_of_a(2);
    write(&mut unverified, [Record::Epoch(epoch_record(2, "a", None))]);
    let aside = looked(made.clone(), unverified.clone(), of_another_cluster(at(1, 50)));
    assert_eq!(aside.op(), Some(&Op::SetAside), "whoever reigns now");
    let kept = looked(made.clone(), unverified, stopped(at(1, 50)));
    assert_eq!(kept.op(), Some(&Op::StartStandby), "the one that won isn't");

    let Instance::Stopped { data, .. } = of_another_cluster(at(1, 50)) else { unreachable!() };
    let running = Instance::Standby { data, source: None, streaming: false, ready: true, starved: false };
    assert_eq!(looked(made, reign_of_a(2), running).op(), Some(&Op::Stop), "stopped first");
    let without_copy = looked(Saved::default(), reign_of_a(2), of_another_cluster(at(1, 50)));
    assert_eq!(without_copy.role(), "frozen", "nobody knows who made it");
}

#[test]
fn a_foreign_directory_or_cluster_freezes() {
    let mut b = looked(Saved::default(), reign_of_a(2), Instance::Foreign(Foreign::OtherVersion));
    let why = Frozen::ForeignData(Foreign::OtherVersion);
    assert_eq!(b.told(), [Event::Froze { why }]);
    assert_eq!(b.op(), None);

    let mut store = View::default();
    let claim = Initialize { by: "x".into(), boot: Boot(1), system: None, foreign: true };
    write(&mut store, [Record::Initialize(claim)]);
    let mut b = looked(Saved::default(), store, Instance::Absent);
    assert_eq!(b.told().last(), Some(&Event::Froze { why: Frozen::ForeignCluster }));
    assert_eq!(b.asked, []);
}

#[test]
fn a_member_says_of_itself_which_copy_it_has_once_it_is_settled() {
    let mut store = reign_of_a(2);
    let known = write(
        &mut store,
        [Record::Member(primacy_core::store::Member { copy: CopyId(1), ..member("b", 1) })],
    );
    let mut b = looked(saved("b", &[1, 2]), store, in_recovery(at(2, 200)));
    let write = b.write();
    assert_eq!(write.txn().put, [Record::Member(member("b", 1))]);
    assert_eq!(write.txn().compare, [(primacy_core::store::Key::Member("b".into()), known)]);
    b.answer(&write);
    b.settle();
    assert_eq!(b.input(Input::Wake), [], "once");
    b.news([Record::Member(member("b", 5))]);
    assert_eq!(
        b.write().txn().put,
        [Record::Member(member("b", 1))],
        "and whenever somebody else says otherwise"
    );
}

#[test]
fn a_member_says_nothing_of_itself_while_it_stands_for_election_or_may_be_mistaken() {
    let mut b = Host::standby();
    b.input(Input::News(News::Interrupted));
    let read = b.read();
    b.unknown(&read);
    b.news([Record::Member(member("b", 5))]);
    b.pass_pause();
    let read = b.read();
    b.answer(&read);
    let write = b.write();
    assert_eq!(write.txn().put, [Record::Member(member("b", 1))], "after the read");

    let mut b = Host::standby();
    b.wake_at(START + secs(5));
    let read = b.read();
    b.answer(&read);
    b.news([Record::Member(member("b", 5))]);
    assert_eq!((b.role(), b.asked), ("candidate", vec![]));
}

#[test]
fn a_member_that_has_no_copy_says_nothing() {
    let b = looked(Saved::default(), reign_of_a(2), in_recovery(at(2, 200)));
    assert_eq!((b.role(), b.asked), ("standby", vec![]));
    let mut b = looked(saved("b", &[1, 2]), reign_of_a(2), Instance::Unknown);
    b.news([Record::Member(member("b", 5))]);
    assert_eq!(b.asked, [], "nor one that doesn't know");
}

#[test]
fn forks_are_those_of_the_copys_own_history() {
    let Instance::Stopped { data, .. } = stopped(at(3, 250)) else { unreachable!() };
    assert_eq!(data.forks, Arc::new([1, 2, 3].map(|epoch| (Epoch(epoch), fork_of(epoch))).into()));
}

/// The store was restored from before epoch 2, which was then won anew, while `b` was away.
#[test]
fn a_source_that_sent_nothing_so_far_counts_if_its_number_was_given_again() {
    let mut past = saved("b", &[1, 2]);
    past.lineage[1].1 = Nonce(21);
    let b = looked(past, reign_of_a(2), in_recovery(at(1, 100)));
    assert_eq!(b.op(), Some(&Op::Stop), "what it may still send isn't known to be that of this reign");
}

#[test]
fn a_copy_that_is_found_does_not_make_a_node_forget_the_highest_reign() {
    let mut store = reign_of_a(2);
    write(&mut store, [released()]);
    let mut b = looked(saved("b", &[1, 2]), store, stopped(at(1, 50)));
    let start = b.order();
    b.durable = Saved { copy: CopyId(99), ..saved("b", &[1]) };
    b.failed(&start, Failure::TimedOut);
    assert_eq!((b.node.saved().copy, b.node.saved().highest), (CopyId(99), Epoch(2)));
}

#[test]
fn what_a_node_knows_of_its_copy_is_not_undone_by_what_is_durable() {
    let mut b = Host::standby();
    let known = b.node.saved().clone();
    b.durable = saved("b", &[1]);
    assert_ne!(b.durable, known);
    b.sees(b.postgres.clone());
    assert_eq!(*b.node.saved(), known);
}
