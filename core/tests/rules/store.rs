//! What a node knows of the store, and when it believes that the store went back.

use crate::host::*;
use primacy_core::event::Frozen;
use primacy_core::instance::{Instance, Op, Saved};
use primacy_core::store::{
    Answer, At, Beat, Initialize, Key, Leader, News, Record, Reign, Released, Request, Response, Switchover,
    View,
};
use primacy_core::{Boot, Effect, Epoch, Event, Input, Lsn, OpId, Revision, Timer};

/// A view that is current at this revision, with a reign of `a`.
fn view(as_of: u64, epoch: u32) -> View {
    let mut view = View { as_of: Revision(as_of - 1), ..View::default() };
    write(&mut view, [Record::Reign(reign(epoch, "a"))]);
    view
}

fn told_view(host: &mut Host, asked: &Asked, view: View) -> Vec<Effect> {
    host.input(Input::Answered(asked.id, Response::Read(Some(view))))
}

fn interrupted(host: &mut Host) -> Asked {
    host.input(Input::News(News::Interrupted));
    host.read()
}

#[test]
fn an_interrupted_watch_is_followed_by_a_read_of_everything() {
    let mut b = Host::standby();
    let effects = b.input(Input::News(News::Interrupted));
    let read = b.read();
    let until = b.now + ms(400);
    assert_eq!(effects, [Effect::Store { id: read.id, until, request: Request::Read }]);
    b.answer(&read);
    assert_eq!(b.asked, []);
}

#[test]
fn an_unanswered_read_is_sent_again_after_a_pause() {
    let mut b = Host::standby();
    let read = interrupted(&mut b);
    b.pass(ms(400));
    assert_eq!(b.unknown(&read), []);
    assert_eq!(b.node.deadline(b.now), Some((b.now + ms(100), Timer::Again)));
    b.wake_at(b.now + ms(100) - us(1));
    assert_eq!(b.asked, []);
    b.wake_at(b.now + us(1));
    assert_ne!(b.read().id, read.id);
}

#[test]
fn answers_to_other_requests_than_the_one_under_way_are_dropped() {
    let mut b = Host::standby();
    let read = interrupted(&mut b);
    b.pass(ms(400));
    b.unknown(&read);
    b.pass_pause();
    let again = b.read();
    assert_eq!(told_view(&mut b, &read, view(99, 9)), [], "late");
    assert_eq!(b.node.view().reign.as_ref().map(|reign| reign.epoch), Some(Epoch(2)));
    assert_eq!(told_view(&mut b, &Asked { id: OpId(9_999), ..again.clone() }, view(99, 9)), []);
    b.answer(&again);
    assert_eq!(b.asked, []);
}

#[test]
fn late_news_of_an_older_state_change_nothing() {
    let mut b = Host::standby();
    let known = b.store.revision(&Key::Beat);
    for revision in [known, Revision(known.0 - 1)] {
        b.pass(secs(1));
        b.input(Input::News(News::Changed(revision, vec![beat(2, 999)])));
        assert_eq!(b.node.view().beat, b.store.beat);
        assert_eq!(
            b.node.deadline(b.now),
            Some((START + secs(5), Timer::Election)),
            "nor is it a sign of life"
        );
    }
    let next = Revision(known.0 + 1);
    b.input(Input::News(News::Changed(next, vec![beat(2, 999)])));
    assert_eq!(b.node.view().revision(&Key::Beat), next);
}

#[test]
fn what_the_watch_told_since_a_read_was_sent_is_kept() {
    let mut b = Host::standby();
    let read = interrupted(&mut b);
    let mut before = b.store.clone();
    write(&mut before, [Record::Member(member("d", 1))]);
    b.written([Record::Member(member("d", 1))]);
    b.news([beat(2, 222)]);
    told_view(&mut b, &read, before);
    assert_eq!(b.node.view(), &b.store, "both");
    assert_eq!(b.role(), "standby");
}

#[test]
fn a_read_as_new_as_what_is_known_replaces_it() {
    let mut b = Host::standby();
    let read = interrupted(&mut b);
    let mut same = b.store.clone();
    same.members.remove(&"c".into());
    told_view(&mut b, &read, same.clone());
    assert_eq!(b.node.view(), &same);
}

/// Why `b`, which knows epoch 2, freezes on reading this.
fn frozen_by(read: View) -> Option<Frozen> {
    let mut b = Host::standby();
    let asked = interrupted(&mut b);
    told_view(&mut b, &asked, read);
    b.node.needs_operator()
}

#[test]
fn a_store_that_has_forgotten_a_reign_freezes_who_has_seen_it() {
    let went_back = |found: u32| Some(Frozen::StoreWentBack { seen: Epoch(2), found: Epoch(found) });
    let known = reign_of_a(2).as_of.0;
    assert_eq!(frozen_by(View::default()), went_back(0));
    assert_eq!(frozen_by(view(known - 1, 2)), went_back(2), "an answer from before the question");
    assert_eq!(frozen_by(view(known, 2)), None);
    assert_eq!(frozen_by(view(known, 1)), went_back(1), "it was restored, and has been written since");
    assert_eq!(frozen_by(view(known + 9, 1)), went_back(1));
    assert_eq!(frozen_by(view(known + 9, 3)), None);
}

#[test]
fn an_older_answer_that_news_have_overtaken_is_no_proof() {
    let mut b = Host::standby();
    let read = interrupted(&mut b);
    let before = b.store.clone();
    b.news([Record::Reign(reign(3, "c"))]);
    told_view(&mut b, &read, before);
    assert_eq!(b.node.needs_operator(), None);
    assert_eq!(b.node.view().reign.as_ref().map(|reign| reign.epoch), Some(Epoch(3)));
}

#[test]
fn what_the_store_has_forgotten_is_written_down_by_those_who_know() {
    let mut b = Host::standby();
    let asked = interrupted(&mut b);
    b.store = view(1_000, 1);
    let store = b.store.clone();
    told_view(&mut b, &asked, store);
    assert_eq!(b.role(), "frozen");
    let written = b.write();
    let Record::Epoch(record) = &written.txn().put[0] else { panic!("{written:?}") };
    assert_eq!((record.epoch, record.nonce, record.fork), (Epoch(2), nonce_of(2), None));
    let revision = b.store.revision(&Key::Reign);
    assert!(written.txn().compare.contains(&(Key::Reign, revision)), "unless somebody has made it anew");
    b.answer(&written);
    b.settle();
    assert_eq!(b.asked, [], "once");
}

/// Whether this record is still as it was once `b` has written down that epoch 2 has been.
fn is_left_alone(store: &View, key: &Key) -> bool {
    let mut b = Host::standby();
    let asked = interrupted(&mut b);
    b.store = store.clone();
    told_view(&mut b, &asked, store.clone());
    let written = b.write();
    b.answer(&written);
    assert!(b.store.epochs.contains_key(&Epoch(2)));
    b.store.revision(key) == store.revision(key)
}

#[test]
fn a_claim_on_its_way_is_refused_once_it_is_known_that_the_store_went_back() {
    let mut store = View { as_of: Revision(1_000), ..View::default() };
    assert!(is_left_alone(&store, &Key::Initialize), "there is nothing to write anew");
    let founded = Initialize { by: "c".into(), boot: Boot(9), system: None, foreign: false };
    write(&mut store, [Record::Initialize(founded)]);
    assert!(!is_left_alone(&store, &Key::Initialize), "the first reign would be claimed with it");
    write(&mut store, [Record::Reign(reign(1, "a")), Record::Rule(rule(1, "a", &["b", "c"]))]);
    assert!(!is_left_alone(&store, &Key::Rule), "any other compares the rule");
    assert!(is_left_alone(&store, &Key::Reign), "which its holder alone writes");
}

/// A store from an old backup, in which somebody has written down that epoch 4 has been.
fn forgetful() -> View {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Epoch(epoch_record(4, "", None))]);
    store
}

#[test]
fn who_was_away_does_not_stand_once_it_is_known_that_the_store_went_back() {
    let why = Some(Frozen::StoreWentBack { seen: Epoch(4), found: Epoch(2) });
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), forgetful(), in_recovery(at(2, 200)));
    assert_eq!(b.node.needs_operator(), why);
    b.settle();
    assert_eq!(b.node.deadline(b.now), None, "no election to wait for");

    let mut store = forgetful();
    store.reign = None;
    store.initialize = None;
    let empty = Host::looked(config("c"), Saved::default(), store, Instance::Absent);
    assert_eq!((empty.role(), &empty.asked[..]), ("vacant", &[][..]), "nor begins another cluster");
}

#[test]
fn a_holder_that_goes_on_knows_better_than_who_writes_something_down() {
    let mut store = forgetful();
    write(&mut store, [Record::Beat(Beat { epoch: Epoch(2), end: Lsn(210) })]);
    let b = Host::looked(config("b"), saved("b", &[1, 2]), store, in_recovery(at(2, 200)));
    assert_eq!(b.node.needs_operator(), None);
    assert!(b.node.deadline(b.now).is_some(), "an election is waited for, as ever");
}

#[test]
fn nor_does_a_holder_go_on_that_has_missed_what_was_written_down() {
    let store = forgetful();
    let running = writable(at(2, 250), &[]);
    let mut a = Host::looked(config("a"), saved("a", &[1, 2]), store, running);
    assert!(!a.asked.iter().any(|asked| matches!(asked.request, Request::Transact(_))), "{:?}", a.asked);
    assert_eq!(a.op(), Some(&Op::Kill));
    assert!(matches!(a.told()[..], [Event::UnorderedPromotion { .. }]));
}

#[test]
fn nothing_is_followed_and_no_copy_is_judged_by_a_store_that_went_back() {
    let mut store = reign_of_a(2);
    let b = Host::looked(config("b"), saved("b", &[1]), store.clone(), stopped(at(1, 150)));
    assert_eq!(b.op(), Some(&Op::Rewind("a".into())), "it went beyond the place where epoch 2 began");
    write(&mut store, [Record::Epoch(epoch_record(4, "", None))]);
    for (copy, expected) in [(at(1, 150), Some(&Op::StartStandby)), (at(1, 90), Some(&Op::StartStandby))] {
        let mut b = Host::looked(config("b"), saved("b", &[1]), store.clone(), stopped(copy));
        assert_eq!(b.op(), expected);
        let start = b.order();
        b.postgres = in_recovery(copy);
        b.done(&start);
        assert_eq!(b.op(), None);
    }
    let empty = Host::looked(config("b"), saved("b", &[]), store, Instance::Absent);
    assert_eq!(empty.op(), None);
}

#[test]
fn an_agent_remembers_the_highest_reign_beside_its_data() {
    let mut past = saved("b", &[1, 2]);
    past.highest = Epoch(3);
    let mut b = Host::new(config("b"), past, reign_of_a(2), in_recovery(at(2, 200)));
    b.begin();
    let why = Frozen::StoreWentBack { seen: Epoch(3), found: Epoch(2) };
    assert_eq!(b.node.needs_operator(), Some(why));
    assert_eq!(b.told(), [Event::Froze { why }]);
}

#[test]
fn a_refusal_is_read_like_any_answer() {
    let mut b = Host::standby();
    b.switchover(None);
    let write = b.write();
    b.input(Input::Answered(write.id, Response::Transact(Answer::Refused(view(1, 1)))));
    assert_eq!(b.role(), "frozen");
}

#[test]
fn a_holder_whose_store_went_back_lets_go_and_then_freezes() {
    let mut a = Host::primary();
    let read = interrupted(&mut a);
    a.store = View::default();
    a.answer(&read);
    assert_eq!(a.told(), [Event::LostLease { to: None }]);
    let kill = a.order();
    assert_eq!(kill.order.op, Op::Kill);
    a.done(&kill);
    assert_eq!(a.role(), "frozen");
    a.wake_at(a.now + secs(60));
    a.settle();
    assert_eq!((a.role(), a.op()), ("frozen", None), "it waits for a person");
}

#[test]
fn a_holder_in_whose_store_only_its_own_reign_is_left_lets_go_as_well() {
    let mut a = Host::primary();
    let read = interrupted(&mut a);
    let mut restored = a.store.clone();
    restored.as_of = Revision(restored.as_of.0 - 1);
    told_view(&mut a, &read, restored);
    assert_eq!(a.told(), [Event::LostLease { to: None }]);
    assert_eq!(a.op(), Some(&Op::Kill));
}

#[test]
fn a_holder_that_is_stopping_when_its_store_went_back_stops_first() {
    let mut a = Host::primary();
    let stop = a.shut_down();
    let read = interrupted(&mut a);
    let mut restored = a.store.clone();
    restored.as_of = Revision(restored.as_of.0 - 1);
    told_view(&mut a, &read, restored);
    assert_eq!((a.told(), a.op()), (vec![], None), "the stop under way goes on");
    assert!(a.node.lease().is_some());
    a.done(&stop);
    let release = a.beat();
    a.answer(&release);
    assert!(a.exited, "as it was told to");
}

#[test]
fn a_beat_refused_by_a_store_that_went_back_ends_the_lease() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    let mut restored = a.store.clone();
    restored.as_of = Revision(restored.as_of.0 - 1);
    a.input(Input::Answered(beat.id, Response::Transact(Answer::Refused(restored))));
    assert_eq!(a.told(), [Event::LostLease { to: None }]);
    assert_eq!(a.node.lease(), None);
}

#[test]
fn an_answer_of_the_wrong_kind_to_a_beat_is_none() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    let store = a.store.clone();
    assert_eq!(told_view(&mut a, &beat, store), []);
    assert!(a.node.lease().is_some());
}

#[test]
fn wal_of_an_unheard_epoch_has_the_store_asked() {
    let mut b = Host::standby();
    b.sees(in_recovery(at(2, 300)));
    assert_eq!(b.asked, []);
    b.ordered = None;
    let mut b = Host::standby();
    b.sees(in_recovery(at(3, 300)));
    b.read();
}

/// One record of each kind.
fn each_kind() -> Vec<Record> {
    let initialize = Initialize { by: "a".into(), boot: Boot(1), system: None, foreign: false };
    vec![
        Record::Initialize(initialize),
        Record::Reign(reign(2, "a")),
        beat(2, 1),
        Record::Rule(rule(2, "a", &["b"])),
        Record::Switchover(Switchover { epoch: Epoch(2), to: None, refused: None }),
        Record::Leader(Leader { name: Some("a".into()) }),
        Record::Epoch(epoch_record(2, "a", None)),
        Record::Pledge(pledge("b", 2, at(2, 1))),
        Record::Member(member("b", 1)),
    ]
}

#[test]
fn each_record_has_a_place_and_a_revision_of_its_own() {
    for record in each_kind() {
        let mut view = View::default();
        view.put(record.clone(), Revision(5));
        let present: Vec<_> = each_kind().iter().map(|record| view.revision(&record.key()).0).collect();
        let expected: Vec<_> = each_kind().iter().map(|other| if *other == record { 5 } else { 0 }).collect();
        assert_eq!(present, expected, "{record:?}");
        assert_eq!(view.as_of, Revision(5));
    }
}

#[test]
fn views_are_merged_record_by_record_and_the_newer_one_wins() {
    let all_at = |revision: u64| {
        let mut view = View::default();
        each_kind().into_iter().for_each(|record| view.put(record, Revision(revision)));
        view
    };
    let merged = |mut known: View, other: View| {
        known.merge(other);
        known
    };
    let (old, new) = (all_at(5), all_at(6));
    assert_eq!(merged(old.clone(), new.clone()), new);
    assert_eq!(merged(new.clone(), old.clone()), new);
    assert_eq!(merged(View::default(), old.clone()), old);
    assert_eq!(merged(old.clone(), View::default()), old);

    let mut other = all_at(5);
    let changed = At { revision: Revision(5), value: std::sync::Arc::new(member("b", 9)) };
    other.members.insert("b".into(), changed);
    let same = At { revision: Revision(5), value: std::sync::Arc::new(reign(9, "x")) };
    other.reign = Some(same);
    assert_eq!(merged(old.clone(), other), old, "of equal ones, the one that is known");
}

#[test]
fn a_release_has_the_position_read_again_but_another_change_has_not() {
    let mut b = Host::standby();
    b.news([beat(2, 201)]);
    assert_eq!(b.op(), None);
    b.news([Record::Reign(Reign { released: Some(Released { end: None, to: None }), ..reign(2, "a") })]);
    assert_eq!(b.op(), Some(&Op::Look));
}

#[test]
fn a_read_that_was_sent_before_an_interruption_is_followed_by_another() {
    let mut b = Host::standby();
    let first = interrupted(&mut b);
    assert_eq!(b.input(Input::News(News::Interrupted)), [], "one at a time");
    b.answer(&first);
    let second = b.read();
    b.answer(&second);
    assert_eq!(b.asked, [], "one is enough");
}

#[test]
fn a_read_that_was_sent_before_newer_wal_was_seen_has_to_know_of_it() {
    let mut b = Host::standby();
    let first = interrupted(&mut b);
    b.sees(in_recovery(at(3, 200)));
    b.answer(&first);
    let second = b.read();
    assert_eq!(b.op(), None, "nothing is concluded meanwhile");
    write(&mut b.store, [Record::Reign(reign(3, "c"))]);
    b.answer(&second);
    assert_eq!(b.asked, []);
}
