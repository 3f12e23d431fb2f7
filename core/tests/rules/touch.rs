//! What is only meaningful relative to something else: two nodes that differ in nothing more are walked over to the
//! same state.

use crate::host::*;
use primacy_core::instance::{Failure, Op, Saved};
use primacy_core::store::{
    Answer, Key, News, Record, Reign, Released, Request, Response, Switchover, Txn, View,
};
use primacy_core::touch::{
    Touch, touch_news, touch_record, touch_request, touch_response, touch_saved, touch_view,
};
use primacy_core::{
    Boot, Command, CopyId, Epoch, Guard, Input, Node, Nonce, OpId, Position, Revision, Span, Time, Timer,
};
use std::sync::Arc;

/// Moves every mark and every revision by one.
struct Shift;

impl Touch for Shift {
    fn past(&mut self, _: &mut Time, _: Span) {}
    fn seen(&mut self, _: &mut Time, _: &mut [&mut Time], _: &[Span]) {}
    fn armed(&mut self, _: &mut Epoch, _: &mut Time) {}
    fn due(&mut self, _: &mut Time) {}
    fn revision(&mut self, _: &Key, revision: &mut Revision) {
        revision.0 += 1;
    }
    fn committed(&mut self, revision: &mut Revision) {
        revision.0 += 1;
    }
    fn known(&mut self, revision: &mut Revision) {
        revision.0 += 1;
    }
    fn answered(&mut self, revision: &mut Revision) {
        revision.0 += 1;
    }
    fn floor(&mut self, revision: &mut Revision) {
        revision.0 += 1;
    }
    fn nonce(&mut self, nonce: &mut Nonce) {
        nonce.0 += 1;
    }
    fn boot(&mut self, boot: &mut Boot) {
        boot.0 += 1;
    }
    fn copy(&mut self, copy: &mut CopyId) {
        copy.0 += 1;
    }
    fn op(&mut self, op: &mut OpId) {
        op.0 += 1;
    }
    fn last_op(&self) -> u32 {
        0
    }
    fn met(&mut self, _: &mut Arc<View>) -> bool {
        false
    }
    fn became(&mut self, _: Arc<View>, _: &mut Arc<View>) {}
}

/// Forgets everything that is relative, and keeps how long it matters.
#[derive(Default)]
struct Forget {
    spans: Vec<Span>,
    moments: Vec<Span>,
}

impl Touch for Forget {
    fn past(&mut self, time: &mut Time, longest: Span) {
        *time = Time(0);
        self.spans.push(longest);
    }
    fn seen(&mut self, seen: &mut Time, asked: &mut [&mut Time], moments: &[Span]) {
        *seen = Time(0);
        asked.iter_mut().for_each(|asked| **asked = Time(0));
        self.moments = moments.to_vec();
    }
    fn armed(&mut self, _: &mut Epoch, until: &mut Time) {
        *until = Time(0);
    }
    fn due(&mut self, time: &mut Time) {
        *time = Time(0);
    }
    fn revision(&mut self, _: &Key, revision: &mut Revision) {
        *revision = Revision(revision.0.min(1));
    }
    fn committed(&mut self, revision: &mut Revision) {
        *revision = Revision(0);
    }
    fn known(&mut self, revision: &mut Revision) {
        *revision = Revision(0);
    }
    fn answered(&mut self, revision: &mut Revision) {
        *revision = Revision(0);
    }
    fn floor(&mut self, revision: &mut Revision) {
        *revision = Revision(0);
    }
    fn nonce(&mut self, nonce: &mut Nonce) {
        *nonce = Nonce(0);
    }
    fn boot(&mut self, boot: &mut Boot) {
        *boot = Boot(0);
    }
    fn copy(&mut self, copy: &mut CopyId) {
        *copy = CopyId(copy.0.min(1));
    }
    fn op(&mut self, op: &mut OpId) {
        *op = OpId(0);
    }
    fn last_op(&self) -> u32 {
        0
    }
    fn met(&mut self, _: &mut Arc<View>) -> bool {
        false
    }
    fn became(&mut self, _: Arc<View>, _: &mut Arc<View>) {}
}

fn forgotten(node: &Node) -> (Node, Forget) {
    let (mut node, mut forget) = (node.clone(), Forget::default());
    node.touch(&mut forget);
    (node, forget)
}

/// The same host an hour later, in another cluster that went the same way: all marks and revisions are others.
fn elsewhere(name: &str, saved: &Saved, store: &View, position: Position) -> Host {
    let (mut saved, mut store) = (saved.clone(), store.clone());
    touch_saved(&mut saved, &mut Shift);
    touch_view(&mut store, &mut Shift);
    store.as_of.0 += 1;
    let mut host = Host::new(config(name), saved.clone(), store, stopped(position));
    host.node = Node::new(std::sync::Arc::new(config(name)), Boot(8), saved);
    host.now = START + secs(3_600);
    host
}

/// Plays a story on two hosts that differ in all that is relative; the states must be the same one.
fn same_story(name: &str, lineage: &[u32], epoch: u32, story: impl Fn(&mut Host)) {
    let position = at(*lineage.last().expect("a reign"), 100);
    same_story_from(position, name, lineage, epoch, story);
}

fn same_story_from(position: Position, name: &str, lineage: &[u32], epoch: u32, story: impl Fn(&mut Host)) {
    let (saved, store) = (saved(name, lineage), reign_of_a(epoch));
    let mut one = Host::new(config(name), saved.clone(), store.clone(), stopped(position));
    let mut other = elsewhere(name, &saved, &store, position);
    for host in [&mut one, &mut other] {
        host.input(Input::Guard(Guard::Idle));
        story(host);
    }
    assert_ne!(one.node, other.node);
    assert_eq!(forgotten(&one.node).0, forgotten(&other.node).0);
}

#[test]
fn a_standby_with_a_read_and_then_a_wish_under_way() {
    same_story("b", &[1, 2], 2, |b| {
        b.settle();
        b.pass(secs(1));
        b.input(Input::News(News::Interrupted));
    });
    same_story("b", &[1, 2], 2, |b| {
        b.settle();
        b.pass(secs(1));
        b.command(Command::Switchover { to: None });
    });
}

#[test]
fn a_copy_that_can_not_be_rewound_and_is_about_to_be_moved_aside() {
    same_story_from(at(1, 101), "b", &[1], 2, |b| {
        b.see();
        let rewind = b.order();
        b.failed(&rewind, Failure::Hopeless);
        b.pass_pause();
        assert_eq!(b.op(), Some(&Op::SetAside));
    });
}

#[test]
fn a_candidate_with_its_pledge_under_way() {
    same_story("b", &[1, 2], 2, |b| {
        b.settle();
        b.pass(secs(5));
        b.input(Input::Wake);
        b.settle_until("candidate");
        let close = b.order();
        b.pass(ms(50));
        b.done(&close);
        assert_eq!(b.role(), "candidate");
    });
}

#[test]
fn a_claim_under_way() {
    same_story("a", &[1], 1, |a| a.settle_until("claiming"));
}

#[test]
fn a_primary_with_beats_of_unknown_outcome_and_an_order_under_way() {
    same_story("a", &[1], 1, |a| {
        a.settle();
        assert_eq!(a.role(), "primary");
        a.wake_for(Timer::Beat);
        let beat = a.beat();
        a.unknown(&beat);
        a.wake_for(Timer::Beat);
        a.sees(stopped(at(2, 100)));
        assert!(a.ordered.is_some());
    });
}

#[test]
fn a_member_that_makes_a_copy() {
    same_story("b", &[1], 2, |b| {
        b.postgres = primacy_core::instance::Instance::Absent;
        let (look, read) = (b.order(), b.read());
        b.done(&look);
        b.answer(&read);
        assert!(b.ordered.is_some());
    });
}

#[test]
fn how_long_a_request_for_authority_and_an_election_matter() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    a.unknown(&beat);
    a.wake_for(Timer::Beat);
    let worth = ms(4_490);
    assert_eq!(forgotten(&a.node).1.spans, [worth, worth], "until the fence");

    let mut b = Host::standby();
    b.wake_at(START + secs(5));
    let read = b.read();
    b.answer(&read);
    assert_eq!(forgotten(&b.node).1.spans, [ms(4_400)], "the window, and four turns");
}

#[test]
fn the_moments_after_a_change_of_the_lease_at_which_it_may_be_somebodys_turn() {
    let moments = |host: &Host| forgotten(&host.node).1.moments;
    assert_eq!(moments(&Host::empty("a")), [secs(30)], "to bid for the bootstrap");
    let mut b = Host::standby();
    assert_eq!(moments(&b), [secs(0), secs(5)], "at once, or when it lapses");
    b.news([Record::Reign(Reign { released: Some(Released { end: None, to: None }), ..reign(2, "a") })]);
    assert_eq!(moments(&b), [secs(0), secs(1), secs(2), secs(3)]);
}

/// One record of each kind that bears a mark, then those that don't.
fn records() -> (Vec<Record>, Vec<Record>) {
    let initialize =
        primacy_core::store::Initialize { by: "a".into(), boot: Boot(1), system: None, foreign: false };
    let marked = vec![
        Record::Initialize(initialize),
        Record::Reign(reign(2, "a")),
        Record::Rule(rule(2, "a", &["b"])),
        Record::Epoch(epoch_record(2, "a", None)),
        Record::Pledge(pledge("b", 2, at(2, 1))),
        Record::Member(member("b", 1)),
    ];
    let wish = Record::Switchover(Switchover { epoch: Epoch(2), to: None, refused: None });
    let leader = Record::Leader(primacy_core::store::Leader { name: None });
    (marked, vec![beat(2, 1), wish, leader])
}

fn shifted(record: &Record) -> Record {
    let mut record = record.clone();
    touch_record(&mut record, &mut Shift);
    record
}

#[test]
fn records_are_walked_over_for_their_marks() {
    let (marked, unmarked) = records();
    assert!(marked.iter().all(|record| shifted(record) != *record));
    assert!(unmarked.iter().all(|record| shifted(record) == *record));
    let Record::Rule(rule) = shifted(&marked[2]) else { panic!("a rule") };
    assert_eq!(rule.leader_copy, CopyId(copy_of("a").0 + 1));
    assert_eq!(rule.electable[&"b".into()], CopyId(copy_of("b").0 + 1));
}

#[test]
fn views_are_walked_over_record_by_record_for_marks_and_revisions() {
    let (mut records, unmarked) = records();
    records.extend(unmarked);
    let (mut view, mut expected) = (View::default(), View::default());
    for record in &records {
        view.put(record.clone(), Revision(5));
        expected.put(shifted(record), Revision(6));
    }
    touch_view(&mut view, &mut Shift);
    view.as_of = expected.as_of;
    assert_eq!(view, expected);
}

#[test]
fn messages_are_walked_over_like_what_they_carry() {
    let record = Record::Reign(reign(2, "a"));
    let txn = |revision, record| {
        Request::Transact(Txn { compare: vec![(Key::Reign, Revision(revision))], put: vec![record] })
    };
    let mut request = txn(5, record.clone());
    touch_request(&mut request, &mut Shift);
    assert_eq!(request, txn(6, shifted(&record)));

    let mut news = News::Changed(Revision(5), vec![record.clone()]);
    touch_news(&mut news, &mut Shift);
    assert_eq!(news, News::Changed(Revision(6), vec![shifted(&record)]));

    let view = |revision, record| {
        let mut view = View::default();
        view.put(record, Revision(revision));
        view
    };
    let (before, after) = (view(5, record.clone()), view(6, shifted(&record)));
    let messages = [
        (Response::Read(Some(before.clone())), Response::Read(Some(after.clone()))),
        (Response::Transact(Answer::Refused(before)), Response::Transact(Answer::Refused(after))),
        (
            Response::Transact(Answer::Committed(Revision(5))),
            Response::Transact(Answer::Committed(Revision(6))),
        ),
        (Response::Transact(Answer::Unknown), Response::Transact(Answer::Unknown)),
    ];
    for (mut message, expected) in messages {
        touch_response(&mut message, &mut Shift);
        assert_eq!(message, expected);
    }
}

#[test]
fn what_is_kept_beside_the_data_is_walked_over_for_its_marks() {
    let mut past = saved("b", &[1, 2]);
    touch_saved(&mut past, &mut Shift);
    let lineage = vec![(Epoch(1), Nonce(11)), (Epoch(2), Nonce(21))];
    assert_eq!(past, Saved { copy: CopyId(copy_of("b").0 + 1), lineage, highest: Epoch(2), mending: false });
}
