//! Who may stand for election, from when, and who goes first.

use crate::host::*;
use primacy_core::event::Right;
use primacy_core::instance::{Failure, Instance, Op, Saved};
use primacy_core::store::{Answer, Beat, Key, News, Pledge, Record, Reign, Released, Request, Response, Txn};
use primacy_core::{CopyId, Effect, Epoch, Event, Guard, Input, Lsn, Nonce, Position, Span, Time, Timer};

/// The default T.
const T: Span = secs(5);

fn election_at(host: &Host) -> Option<Time> {
    host.node.deadline(host.now).filter(|(_, why)| *why == Timer::Election).map(|(time, _)| time)
}

/// The reign of `a` in epoch 2, given back.
fn release(end: Option<u64>, to: Option<&str>) -> Record {
    let released = Some(Released { end: end.map(Lsn), to: to.map(Into::into) });
    Record::Reign(Reign { released, ..reign(2, "a") })
}

/// `b` at the moment when the lease of `a` has lapsed, and its own read has shown that.
fn candidate() -> Host {
    candidate_of(Host::standby())
}

fn candidate_of(mut b: Host) -> Host {
    b.wake_at(START + T);
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.role(), "candidate");
    b
}

/// The same, with its sources closed and its position published.
fn pledged() -> Host {
    pledged_of(candidate())
}

fn pledged_of(mut b: Host) -> Host {
    let close = b.order();
    b.done(&close);
    let write = b.write();
    b.answer(&write);
    b.told();
    b
}

#[test]
fn a_lease_lapses_when_it_was_unchanged_for_t() {
    let mut b = Host::standby();
    assert_eq!(b.node.unchanged_since(), START);
    assert_eq!(election_at(&b), Some(START + T));
    b.wake_at(START + T - us(1));
    assert_eq!(b.asked, []);
    b.wake_at(START + T);
    b.read();
}

#[test]
fn t_is_that_of_the_reign() {
    let mut b = Host::standby();
    b.news([Record::Reign(Reign { ttl: secs(30), ..reign(2, "a") })]);
    assert_eq!(election_at(&b), Some(START + secs(30)));
}

#[test]
fn each_change_of_beat_or_reign_starts_the_wait_anew_from_its_sight_on() {
    let mut b = Host::standby();
    b.pass(secs(1));
    b.news([beat(2, 201)]);
    assert_eq!(election_at(&b), Some(START + secs(1) + T));
    b.pass(secs(1));
    b.news([Record::Reign(reign(2, "a"))]);
    assert_eq!(election_at(&b), Some(START + secs(2) + T));
    b.pass(secs(1));
    b.news([Record::Rule(rule(2, "a", &["b", "c"]))]);
    assert_eq!(election_at(&b), Some(START + secs(2) + T), "a rule is no sign of life by itself");
}

#[test]
fn a_lapse_is_believed_only_after_a_read_that_was_sent_after_it() {
    let mut b = Host::standby();
    b.wake_at(START + T - us(1));
    b.input(Input::News(News::Interrupted));
    let early = b.read();
    b.pass(us(1));
    b.answer(&early);
    assert_eq!(b.role(), "standby");
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.role(), "candidate");
    assert!(b.told().contains(&Event::Lapsed { holder: "a".into(), after: T }));
}

#[test]
fn a_read_sent_just_when_the_lease_lapses_is_enough() {
    let mut b = Host::standby();
    b.wake_at(START + T);
    let read = b.read();
    assert_eq!(read.sent, START + T);
    b.answer(&read);
    assert_eq!(b.role(), "candidate");
}

#[test]
fn a_beat_that_the_watch_did_not_tell_is_found_by_the_read() {
    let mut b = Host::standby();
    b.written([beat(2, 300)]);
    b.wake_at(START + T);
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.role(), "standby");
    assert_eq!(election_at(&b), Some(START + T + T));
}

#[test]
fn a_new_agent_waits_from_its_own_sight_on() {
    let b = Host::standby();
    assert_eq!(b.now, START, "its host has been up for a while");
    assert_eq!(election_at(&b), Some(START + T));
}

#[test]
fn nobody_stands_without_a_right() {
    let nobody = |change: &dyn Fn(&mut Host)| {
        let mut b = Host::standby();
        change(&mut b);
        b.settle();
        b.wake_at(START + secs(60));
        b.settle();
        assert_eq!(b.node.lease(), None);
        assert!(!b.told().iter().any(|event| matches!(event, Event::Lapsed { .. } | Event::Stands { .. })));
    };
    nobody(&|b| drop(b.news([Record::Rule(rule(2, "a", &["c"]))])));
    nobody(&|b| {
        let mut rule = rule(2, "a", &["b", "c"]);
        rule.electable.insert("b".into(), CopyId(1));
        b.news([Record::Rule(rule)]);
    });
    nobody(&|b| drop(b.news([Record::Epoch(epoch_record(2, "a", None))])));
}

#[test]
fn a_listed_copy_stands_only_if_it_is_part_of_the_elected_history() {
    let given_back = |past| {
        let mut store = reign_of_a(2);
        write(&mut store, [release(None, None)]);
        let mut b = Host::new(config("b"), past, store, in_recovery(at(2, 200)));
        b.input(Input::Guard(Guard::Idle));
        b.settle_until("candidate");
        b.role()
    };
    let past = saved("b", &[1, 2]);
    assert_eq!(given_back(past.clone()), "candidate");
    assert_eq!(
        given_back(Saved { lineage: vec![(Epoch(1), Nonce(10)), (Epoch(2), Nonce(21))], ..past }),
        "standby"
    );
}

#[test]
fn a_member_of_priority_zero_never_stands() {
    let mut settings = config("b");
    settings.priority = 0;
    let b = Host::standby_with(settings);
    assert_eq!(election_at(&b), None);
}

#[test]
fn a_copy_promoted_by_hand_never_stands_not_even_that_of_the_leader() {
    let mut past = saved("a", &[1, 2]);
    past.lineage.push((Epoch(3), Nonce(0)));
    let mut a = Host::new(config("a"), past, reign_of_a(2), in_recovery(at(3, 210)));
    a.begin();
    assert_eq!((a.role(), election_at(&a)), ("standby", None));
}

#[test]
fn nobody_stands_in_a_store_that_names_a_lower_epoch_than_was_seen() {
    let mut past = saved("b", &[1, 2]);
    let known = |past: &Saved| {
        let mut b = Host::new(config("b"), past.clone(), reign_of_a(2), in_recovery(at(2, 200)));
        b.begin();
        election_at(&b)
    };
    assert!(known(&past).is_some());
    past.highest = Epoch(3);
    assert_eq!(known(&past), None);
}

#[test]
fn a_copy_that_runs_nowhere_does_not_stand() {
    let mut b = Host::standby();
    b.sees(stopped(at(2, 200)));
    b.ordered = None;
    assert_eq!(election_at(&b), None);
}

#[test]
fn a_listed_member_closes_its_sources_and_publishes_its_position_before_anything_else() {
    let mut b = candidate();
    let close = b.order();
    assert_eq!(close.order.op, Op::CloseSources);
    assert_eq!(b.asked, [], "the position means nothing yet");
    b.postgres = b.node.instance().clone();
    let effects = b.done(&close);
    let pledge = Record::Pledge(pledge("b", 2, at(2, 200)));
    let compare = vec![
        (Key::Pledge("b".into()), b.store.revision(&Key::Pledge("b".into()))),
        (Key::Reign, b.store.revision(&Key::Reign)),
    ];
    let request = Request::Transact(Txn { compare, put: vec![pledge] });
    let id = b.write().id;
    assert_eq!(effects, [Effect::Store { id, until: b.now + ms(400), request }]);
}

#[test]
fn sources_that_could_not_be_closed_are_closed_again() {
    let mut b = candidate();
    let close = b.order();
    b.failed(&close, Failure::TimedOut);
    assert_eq!(b.asked, []);
    b.wake_for(Timer::Again);
    assert_eq!(b.op(), Some(&Op::CloseSources));
}

#[test]
fn silent_candidates_are_waited_for() {
    let mut b = pledged();
    assert_eq!(election_at(&b), Some(b.now + ms(400)));
    b.wake_at(b.now + ms(400) - us(1));
    assert_eq!(b.role(), "candidate");
    b.wake_at(b.now + us(1));
    assert_eq!(b.told(), [Event::Stands { epoch: Epoch(3), right: Right::Listed, position: at(2, 200) }]);
    b.claim();
}

#[test]
fn the_best_claims_as_soon_as_it_has_heard_all_others() {
    let mut b = pledged();
    b.news([Record::Pledge(pledge("c", 2, at(2, 199)))]);
    assert_eq!(b.role(), "claiming");
    assert_eq!(b.told(), [Event::Stands { epoch: Epoch(3), right: Right::Listed, position: at(2, 200) }]);
}

#[test]
fn who_is_not_the_best_waits_a_second_for_each_better_one() {
    let mut b = pledged();
    let since = b.now;
    b.pass(ms(5));
    b.news([Record::Pledge(pledge("c", 2, at(2, 201)))]);
    b.input(Input::Wake);
    let not_best = Event::NotBest { best: "c".into(), theirs: at(2, 201), ours: at(2, 200) };
    assert_eq!(b.told(), [not_best], "said once");
    assert_eq!(election_at(&b), Some(since + secs(1)));
    b.wake_at(since + secs(1) - us(1));
    assert_eq!(b.role(), "candidate");
    b.wake_at(since + secs(1));
    assert_eq!(b.role(), "claiming", "the better one didn't come");
}

#[test]
fn with_two_better_ones_and_a_silent_one_the_waits_add_up() {
    let mut b = Host::standby();
    b.news([
        Record::Rule(rule(2, "a", &["b", "c", "d", "e"])),
        Record::Member(member("d", 1)),
        Record::Member(member("e", 1)),
    ]);
    let mut b = pledged_of(candidate_of(b));
    let since = b.now;
    b.news([Record::Pledge(pledge("c", 2, at(2, 201))), Record::Pledge(pledge("d", 2, at(2, 202)))]);
    assert_eq!(election_at(&b), Some(since + secs(2) + ms(400)));
}

/// Whether `b` at 2/200 and priority 1 lets this one go first.
fn yields_to(rival: Pledge, priority: u32) -> bool {
    let mut b = pledged();
    let mut member = member(rival.member.as_str(), priority);
    member.copy = rival.copy;
    b.news([Record::Member(member)]);
    b.news([Record::Pledge(rival)]);
    b.told().iter().any(|event| matches!(event, Event::NotBest { .. }))
}

#[test]
fn the_best_is_who_has_the_highest_timeline_then_the_longest_wal_then_priority_then_the_first_name() {
    assert!(yields_to(pledge("c", 2, at(3, 1)), 1));
    assert!(!yields_to(pledge("c", 2, at(1, 999)), 1), "bytes of an older timeline count for nothing");
    assert!(yields_to(pledge("c", 2, at(2, 201)), 0));
    assert!(yields_to(pledge("c", 2, at(2, 200)), 2));
    assert!(!yields_to(pledge("c", 2, at(2, 200)), 0));
    assert!(!yields_to(pledge("c", 2, at(2, 200)), 1), "b comes before c");
}

#[test]
fn only_pledges_of_just_this_election_and_of_the_listed_copy_count() {
    let best = pledge("c", 2, at(2, 999));
    assert!(yields_to(best.clone(), 1));
    assert!(!yields_to(Pledge { epoch: Epoch(1), ..best.clone() }, 1), "of an earlier election");
    assert!(!yields_to(Pledge { held: false, ..best.clone() }, 1), "withdrawn");
    assert!(!yields_to(Pledge { copy: CopyId(1), ..best.clone() }, 1), "of another copy");
    assert!(!yields_to(Pledge { member: "x".into(), ..best }, 1), "not listed");
}

#[test]
fn the_holder_that_has_gone_is_not_waited_for() {
    let mut b = Host::standby();
    b.news([Record::Rule(rule(2, "a", &["a", "b"]))]);
    let b = pledged_of(candidate_of(b));
    assert_eq!(b.role(), "claiming");
}

#[test]
fn a_pledge_is_given_for_each_election_anew() {
    let mut b = candidate();
    b.written([Record::Pledge(pledge("b", 1, at(2, 200)))]);
    b.news([Record::Pledge(pledge("b", 1, at(2, 200)))]);
    let b = pledged_of(b);
    assert_eq!(b.store.pledges[&"b".into()].epoch, Epoch(2));
}

#[test]
fn nobody_stands_with_wal_of_a_reign_that_nobody_knows() {
    let released = Some(Released { end: Some(Lsn(200)), to: None });
    let stands = |position, lineage: &[u32]| {
        let mut store = reign_of_a(2);
        write(&mut store, [Record::Reign(Reign { released: released.clone(), ..reign(2, "a") })]);
        let mut b = Host::looked(config("b"), saved("b", lineage), store, in_recovery(position));
        b.settle();
        b.told().iter().any(|event| matches!(event, Event::Stands { .. }))
    };
    assert!(stands(at(2, 210), &[1, 2]), "it was handed to it");
    assert!(!stands(at(3, 210), &[1, 2]), "further, but whose is it?");
    assert!(!stands(at(2, 210), &[2]), "and from where did it come?");
}

/// `b` after the window, with the end of WAL that `a` has published.
fn behind(end: u64) -> Host {
    let mut b = Host::standby();
    b.news([beat(2, end)]);
    let mut b = pledged_of(candidate_of(b));
    b.wake_at(b.now + ms(400));
    b
}

#[test]
fn who_lacks_more_than_the_bound_against_the_published_end_does_not_claim() {
    assert_eq!(behind(200 + 1_048_576).role(), "claiming");
    let mut b = behind(200 + 1_048_577);
    assert_eq!(b.role(), "candidate");
    b.input(Input::Wake);
    assert_eq!(b.told(), [Event::TooFarBehind { behind: 1_048_577, bound: 1_048_576 }], "said once");
}

/// The end that was published last in this store.
fn published(store: &primacy_core::store::View) -> u64 {
    store.beat.as_ref().unwrap().end.0
}

#[test]
fn who_was_elected_but_never_admitted_does_not_move_the_bound() {
    let mut b = behind(900_000);
    let claim = b.claim();
    b.answer(&claim);
    assert_eq!(b.role(), "promoting");
    assert_eq!(published(&b.store), 900_000, "as long as the old rule elects");
    b.pass(ms(1_250));
    b.input(Input::Wake);
    let renewal = b.beat();
    b.answer(&renewal);
    assert_eq!(published(&b.store), 900_000, "nor with its next sign of life");
    b.acknowledge();
    let promote = b.order();
    b.done(&promote);
    let admission = b.beat();
    b.answer(&admission);
    assert_eq!(b.role(), "primary");
    assert_eq!(published(&b.store), 200, "what was lost then is lost for all");
}

#[test]
fn who_is_ahead_of_the_published_end_lacks_nothing() {
    let mut b = behind(1);
    assert_eq!(b.claim().txn().put[1], beat(3, 200), "a new reign says how far it goes itself");
}

/// `c` has led epoch 3 after `a` and given it back before `b` could follow it. Then `b` closes its sources, and finds that
/// the old one had sent WAL of a timeline 3, which left the one before at `fork`.
fn closed_beyond(fork: Position) -> Host {
    let mut b = Host::standby();
    b.pass(secs(1));
    let released = Some(Released { end: None, to: None });
    let reign = Record::Reign(Reign { released, ..reign(3, "c") });
    b.news([
        reign,
        Record::Epoch(epoch_record(3, "c", Some(fork_of(3)))),
        Record::Rule(rule(3, "c", &["b"])),
    ]);
    let look = b.order();
    b.done(&look);
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.role(), "candidate");
    let close = b.order();
    let mut data = data(at(3, 250));
    std::sync::Arc::make_mut(&mut data.forks).insert(Epoch(3), fork);
    b.postgres = Instance::Standby { data, source: None, streaming: false, ready: true, starved: false };
    b.done(&close);
    b.settle();
    b
}

#[test]
fn a_reign_that_came_with_the_last_wal_belongs_to_the_lineage() {
    let b = closed_beyond(fork_of(3));
    let lineage: Vec<_> = b.node.saved().lineage.iter().map(|(epoch, _)| epoch.0).collect();
    assert_eq!(lineage, [1, 2, 3, 4]);
}

#[test]
fn who_has_wal_of_nobody_knows_whom_by_then_stands_no_longer() {
    let mut b = closed_beyond(at(2, 190));
    assert_eq!(b.role(), "standby");
    assert!(!b.told().iter().any(|event| matches!(event, Event::Stands { .. })));
}

#[test]
fn a_candidate_gives_up_when_the_holder_is_back_and_follows_again() {
    let mut b = pledged();
    b.news([beat(2, 200)]);
    assert_eq!(b.told(), [Event::HolderIsBack { holder: "a".into() }]);
    let withdrawal = b.write();
    let withdrawn = Pledge { held: false, ..pledge("b", 2, at(2, 200)) };
    assert_eq!(withdrawal.txn().put, [Record::Pledge(withdrawn)]);
    assert_eq!(b.op(), None, "first it takes its word back");
    b.answer(&withdrawal);
    assert_eq!(b.op(), Some(&Op::Follow("a".into())));
}

#[test]
fn a_candidate_gives_up_when_another_was_elected() {
    let mut b = pledged();
    b.news([Record::Reign(reign(3, "c")), beat(3, 200)]);
    assert_eq!(b.told(), [Event::LostElection { to: "c".into() }]);
    assert_eq!(b.role(), "standby");
    assert_eq!(b.op(), None, "c isn't verified yet");
    b.news([Record::Epoch(epoch_record(3, "c", Some(at(2, 200)))), Record::Rule(rule(3, "c", &["b"]))]);
    assert_eq!(b.op(), Some(&Op::Follow("c".into())), "its word was about epoch 2");
}

#[test]
fn a_candidate_whose_postgresql_has_gone_is_none() {
    let mut b = pledged();
    b.sees(stopped(at(2, 200)));
    assert_eq!(b.role(), "standby");
    assert_eq!(b.op(), Some(&Op::StartStandby));
}

#[test]
fn a_claim_comes_after_the_answer_to_the_pledge() {
    let mut b = candidate();
    let close = b.order();
    b.done(&close);
    let write = b.write();
    let revision = b.apply(&write).expect("applied");
    let ours = Record::Pledge(pledge("b", 2, at(2, 200)));
    b.input(Input::News(News::Changed(revision, vec![ours])));
    b.news([Record::Pledge(pledge("c", 2, at(2, 1)))]);
    assert_eq!(b.role(), "candidate", "one request at a time");
    b.input(Input::Answered(write.id, Response::Transact(Answer::Committed(revision))));
    assert_eq!(b.role(), "claiming");
}

#[test]
fn after_a_release_the_position_is_read_before_anything_is_concluded_from_it() {
    let mut b = Host::standby();
    b.news([release(Some(250), Some("b"))]);
    assert_eq!(b.op(), Some(&Op::Look));
    assert_eq!(b.role(), "standby");
    let look = b.order();
    b.postgres = at_position(at(2, 250));
    b.done(&look);
    assert_eq!(b.role(), "claiming");
    assert!(b.told().contains(&Event::Stands {
        epoch: Epoch(3),
        right: Right::HandedOver,
        position: at(2, 250)
    }));
    assert_eq!(b.op(), None, "no second look");
}

/// `b` still streams from `a`, as far as this.
fn at_position(position: Position) -> Instance {
    let source = Some(("a".into(), Epoch(2)));
    Instance::Standby { data: data(position), source, streaming: true, ready: true, starved: false }
}

/// When it is `b`'s turn, at this position, after the release.
fn turn_after(release: Record, position: Position) -> Span {
    let mut b = Host::standby();
    b.sees(at_position(position));
    b.pass(secs(1));
    let seen = b.now;
    b.news([release]);
    let look = b.order();
    b.done(&look);
    if b.role() != "standby" {
        return secs(0);
    }
    election_at(&b).expect("a turn").since(seen)
}

#[test]
fn a_lease_handed_over_is_taken_first_by_the_named_one_with_everything_up_to_the_shutdown() {
    assert_eq!(turn_after(release(Some(200), Some("b")), at(2, 200)), secs(0));
    assert_eq!(turn_after(release(Some(200), None), at(2, 200)), secs(0), "or by anybody, if none is named");
    assert_eq!(
        turn_after(release(Some(200), Some("c")), at(2, 200)),
        secs(1),
        "then by others that have it all"
    );
    assert_eq!(
        turn_after(release(Some(201), Some("b")), at(2, 200)),
        secs(3),
        "at last by those who lack some"
    );
    assert_eq!(turn_after(release(Some(200), Some("b")), at(1, 100)), secs(3), "on whatever timeline");
}

#[test]
fn after_an_unclean_release_the_listed_stand_at_once() {
    let mut b = Host::standby();
    b.pass(secs(1));
    b.news([release(None, None)]);
    let look = b.order();
    b.done(&look);
    let read = b.read();
    b.answer(&read);
    assert_eq!(b.role(), "candidate");
    assert!(b.told().contains(&Event::SawRelease { holder: "a".into() }));
}

#[test]
fn the_one_it_was_handed_to_claims_in_its_turn() {
    let mut b = Host::standby();
    b.news([release(Some(200), Some("c"))]);
    let look = b.order();
    b.done(&look);
    b.wake_at(START + secs(1) - us(1));
    assert_eq!((b.role(), b.asked.len()), ("standby", 0));
    b.wake_at(START + secs(1));
    assert_eq!(b.role(), "claiming");
}

/// `a` at 2/200, running in recovery; it wrote the rule in force.
fn old_leader(reign: Reign) -> Host {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Reign(reign)]);
    let mut a = Host::looked(config("a"), saved("a", &[1, 2]), store, in_recovery(at(2, 200)));
    if let Some(again) = a.ordered.take() {
        a.done(&again);
    }
    a
}

#[test]
fn the_leader_that_the_store_still_names_stands_at_once() {
    assert_eq!(old_leader(reign(2, "a")).role(), "claiming");
}

#[test]
fn the_leader_comes_after_those_it_has_handed_over_to() {
    let released = Some(Released { end: Some(Lsn(999)), to: Some("b".into()) });
    let mut a = old_leader(Reign { released, ..reign(2, "a") });
    assert_eq!(election_at(&a), Some(START + secs(2)));
    a.wake_at(START + secs(2));
    let read = a.read();
    a.answer(&read);
    assert_eq!(a.role(), "claiming");
    assert!(a.told().contains(&Event::Stands {
        epoch: Epoch(3),
        right: Right::Leader,
        position: at(2, 200)
    }));
}

#[test]
fn the_leader_stands_again_when_its_successor_was_never_admitted() {
    let mut a = old_leader(reign(3, "b"));
    assert_eq!(a.role(), "standby");
    assert_eq!(election_at(&a), Some(START + T));
    a.wake_at(START + T);
    let read = a.read();
    a.answer(&read);
    assert_eq!(a.role(), "claiming", "the rule before stays the one that elects");
}

#[test]
fn the_leader_stands_only_with_the_copy_it_led_with() {
    let mut store = reign_of_a(2);
    let mut past = rule(2, "a", &["b"]);
    past.leader_copy = CopyId(1);
    write(&mut store, [Record::Rule(past)]);
    let mut a = Host::new(config("a"), saved("a", &[1, 2]), store, in_recovery(at(2, 200)));
    a.begin();
    assert_eq!((a.role(), election_at(&a)), ("standby", None));
}

#[test]
fn a_beat_of_the_holder_is_taken_from_the_store_not_from_its_epoch() {
    let mut b = Host::standby();
    b.pass(secs(4));
    b.news([Record::Beat(Beat { epoch: Epoch(1), end: Lsn(1) })]);
    assert_eq!(election_at(&b), Some(START + secs(4) + T), "any change of the record counts");
}

#[test]
fn whose_wal_came_from_elsewhere_takes_no_handover() {
    // Its source was copied anew from `c`, and carried it onto a timeline that it hasn't heard of.
    let mut store = reign_of_a(1);
    let released = Some(Released { end: Some(Lsn(200)), to: Some("b".into()) });
    write(&mut store, [Record::Epoch(epoch_record(2, "c", None)), Record::Rule(rule(2, "c", &["a", "b"]))]);
    write(&mut store, [Record::Reign(Reign { released, ..reign(2, "c") })]);
    let then = |lineage: &[u32]| {
        let mut b = Host::looked(config("b"), saved("b", lineage), store.clone(), in_recovery(at(2, 200)));
        let look = b.order();
        b.done(&look);
        b.role()
    };
    assert_eq!(then(&[1, 2]), "claiming");
    assert_eq!(then(&[1]), "standby");
}
