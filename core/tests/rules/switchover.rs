//! How a primary is moved.

use crate::host::*;
use primacy_core::effect::Reply;
use primacy_core::instance::{Failure, Op};
use primacy_core::store::{Key, Member, News, Record, Refusal, Reign, Released, Switchover, Txn};
use primacy_core::{CopyId, Epoch, Event, Input, RequestId, Timer};

fn wish(to: Option<&str>) -> Switchover {
    Switchover { epoch: Epoch(2), to: to.map(Into::into), refused: None }
}

fn answered(reply: Reply) -> [(RequestId, Reply); 1] {
    [(RequestId(1), reply)]
}

#[test]
fn any_member_writes_the_wish_down_bound_to_the_present_reign() {
    let mut b = Host::standby();
    b.switchover(Some("c"));
    let revisions = [Key::Switchover, Key::Reign].map(|key| (key.clone(), b.store.revision(&key)));
    let put = vec![Record::Switchover(wish(Some("c")))];
    assert_eq!(b.write().txn(), &Txn { compare: revisions.to_vec(), put });
    assert_eq!(b.replies(), [], "nothing has come of it yet");
}

#[test]
fn a_wish_is_not_written_from_a_view_that_may_be_old() {
    let mut b = Host::standby();
    b.input(Input::News(News::Interrupted));
    b.switchover(None);
    let read = b.read();
    assert_eq!(b.asked, []);
    b.answer(&read);
    b.write();
}

#[test]
fn a_wish_of_unknown_outcome_is_read_and_if_missing_written_again() {
    let mut b = Host::standby();
    b.switchover(None);
    let lost = b.write();
    b.unknown(&lost);
    b.wake_for(Timer::Again);
    let read = b.read();
    b.answer(&read);
    let again = b.write();
    assert_eq!(again.request, lost.request);
    b.answer(&again);
    assert_eq!(b.asked, []);
}

#[test]
fn the_member_that_was_asked_answers_when_another_is_activated() {
    let mut b = Host::standby();
    b.switchover(None);
    b.settle();
    b.news([Record::Reign(reign(3, "c")), beat(3, 1)]);
    assert_eq!(b.replies(), [], "elected, but not admitted");
    b.news([Record::Rule(rule(3, "c", &["a", "b"]))]);
    assert_eq!(b.replies(), answered(Reply::SwitchedTo("c".into())));
}

#[test]
fn the_member_that_was_asked_answers_when_the_holder_refuses() {
    let mut b = Host::standby();
    b.switchover(None);
    b.settle();
    let refused = Some(Refusal::NoCandidate);
    b.news([Record::Switchover(Switchover { refused, ..wish(None) })]);
    assert_eq!(b.replies(), answered(Reply::Refused(Refusal::NoCandidate)));
}

#[test]
fn the_refusal_of_an_earlier_wish_is_no_answer() {
    let mut b = Host::standby();
    let refused = Some(Refusal::NoCandidate);
    b.news([Record::Switchover(Switchover { refused, ..wish(None) })]);
    b.switchover(None);
    assert_eq!(b.replies(), [], "our wish doesn't stand in the store yet");
    b.settle();
    assert_eq!(b.replies(), []);
    b.news([Record::Switchover(Switchover { epoch: Epoch(1), refused, to: None })]);
    assert_eq!(b.replies(), [], "of another reign");
}

#[test]
fn after_twenty_seconds_the_answer_is_that_it_is_not_known() {
    let mut b = Host::standby();
    b.switchover(None);
    b.settle();
    let asked = b.now;
    b.wake_for(Timer::Answer);
    assert_eq!(b.now, asked + secs(20));
    assert_eq!(b.replies(), answered(Reply::Unknown));

    let mut b = Host::standby();
    b.switchover(None);
    b.settle();
    b.wake_at(asked + secs(20) - us(1));
    assert_eq!(b.replies(), []);
}

#[test]
fn one_wish_at_a_time() {
    let mut b = Host::standby();
    b.switchover(None);
    b.settle();
    b.switchover(Some("c"));
    assert_eq!(b.replies(), answered(Reply::Busy));
    b.news([Record::Switchover(Switchover { refused: Some(Refusal::NoCandidate), ..wish(None) })]);
    b.replies();
    b.switchover(None);
    assert_eq!(b.replies(), [], "but one after the other");
}

#[test]
fn nothing_is_moved_to_where_it_is() {
    let mut b = Host::standby();
    b.switchover(Some("a"));
    assert_eq!(b.replies(), answered(Reply::AlreadyPrimary));
}

#[test]
fn without_a_primary_there_is_nothing_to_move() {
    let no_primary = |records: Vec<Record>| {
        let mut b = Host::standby();
        b.news(records);
        b.switchover(Some("c"));
        b.replies() == answered(Reply::NoPrimary)
    };
    let released = Some(Released { end: None, to: None });
    assert!(!no_primary(vec![beat(2, 1)]));
    assert!(no_primary(vec![Record::Reign(reign(3, "c"))]), "not admitted yet");
    assert!(no_primary(vec![Record::Reign(Reign { released, ..reign(2, "a") })]), "given back");
    let mut a = Host::empty("a");
    a.switchover(None);
    assert_eq!(a.replies(), answered(Reply::NoPrimary), "no reign has been yet");
}

/// Whom the primary `a` hands over to, or why not.
fn target(a: &mut Host, to: Option<&str>) -> Result<String, Refusal> {
    a.news([Record::Switchover(wish(to))]);
    let told = a.told();
    if let Some(why) = told.iter().find_map(|event| match event {
        Event::SwitchoverRefused { why } => Some(*why),
        _ => None,
    }) {
        return Err(why);
    }
    let checkpoint = a.order();
    assert_eq!(checkpoint.order.op, Op::Checkpoint, "so that the stop is short");
    a.done(&checkpoint);
    let to = a.told().iter().find_map(|event| match event {
        Event::HandsOver { to } => to.clone(),
        _ => None,
    });
    Ok(to.expect("a target").as_str().into())
}

fn target_among(followers: &[(&str, u64)], to: Option<&str>) -> Result<String, Refusal> {
    target(&mut Host::primary_of(followers), to)
}

#[test]
fn the_best_is_who_has_flushed_most_then_priority_then_the_first_name() {
    assert_eq!(target_among(&[("b", 199), ("c", 200)], None), Ok("c".into()));
    assert_eq!(target_among(&[("b", 200), ("c", 200)], None), Ok("b".into()));
    let mut a = Host::primary_of(&[("b", 200), ("c", 200)]);
    a.news([Record::Member(member("c", 2))]);
    assert_eq!(target(&mut a, None), Ok("c".into()));
}

#[test]
fn nobody_is_chosen_who_does_not_stream() {
    assert_eq!(target_among(&[], None), Err(Refusal::NoCandidate));
    assert_eq!(target_among(&[("c", 200)], Some("b")), Err(Refusal::NotStreaming));
}

#[test]
fn the_named_one_is_taken_though_another_is_better() {
    assert_eq!(target_among(&[("b", 200), ("c", 100)], Some("c")), Ok("c".into()));
}

#[test]
fn who_lags_by_more_than_the_bound_is_not_taken() {
    let at_end = |end: u64| {
        let mut a = Host::primary_of(&[("b", 200)]);
        a.sees(writable(at(2, end), &[("b", 200)]));
        target(&mut a, Some("b"))
    };
    assert_eq!(at_end(200 + 1_048_576), Ok("b".into()));
    assert_eq!(at_end(200 + 1_048_577), Err(Refusal::TooFarBehind));
    assert_eq!(at_end(1), Ok("b".into()), "it was seen a moment later than our own end");
}

#[test]
fn who_must_not_become_primary_is_not_taken() {
    let with = |record: Record| {
        let mut a = Host::primary_of(&[("b", 200), ("x", 200)]);
        a.news([record]);
        a
    };
    assert_eq!(
        target(&mut with(beat(2, 1)), Some("x")),
        Err(Refusal::NotEligible),
        "it has said nothing of itself"
    );
    let excluded = Record::Member(member("b", 0));
    assert_eq!(target(&mut with(excluded), Some("b")), Err(Refusal::NotEligible));
    let mut a = Host::primary_of(&[("b", 200)]);
    a.wake_for(Timer::Beat);
    a.news([Record::Member(Member { copy: CopyId(1), ..member("b", 1) })]);
    assert_eq!(target(&mut a, Some("b")), Err(Refusal::NotEligible), "its new copy isn't listed yet");
}

#[test]
fn a_refusal_is_written_into_the_wish_and_then_forgotten() {
    let mut a = Host::primary();
    a.news([Record::Switchover(wish(None))]);
    let beat = a.beat();
    let refused = Some(Refusal::NoCandidate);
    assert_eq!(beat.txn().put[1..], [Record::Switchover(Switchover { refused, ..wish(None) })]);
    assert_eq!(a.told(), [Event::SwitchoverRefused { why: Refusal::NoCandidate }]);
    a.input(Input::Wake);
    assert_eq!(a.told(), [], "said once");
    a.answer(&beat);
    assert_eq!(a.asked, []);
    a.sees(writable(at(2, 200), &[("b", 200)]));
    a.settle();
    assert_eq!(target(&mut a, None), Ok("b".into()), "another wish is looked at anew");
}

#[test]
fn a_wish_of_another_reign_means_nothing() {
    let mut a = Host::primary_of(&[("b", 200)]);
    a.news([Record::Switchover(Switchover { epoch: Epoch(1), ..wish(None) })]);
    assert_eq!(a.told(), []);
    a.news([Record::Switchover(Switchover { refused: Some(Refusal::NotStreaming), ..wish(None) })]);
    assert_eq!(a.told(), [], "nor does one that was answered");
    assert_eq!(a.op(), None);
}

#[test]
fn a_handover_is_a_checkpoint_then_a_stop_then_a_release_to_the_chosen_one() {
    let mut a = Host::primary_of(&[("b", 200), ("c", 190)]);
    a.switchover(None);
    let write = a.write();
    a.answer(&write);
    let checkpoint = a.order();
    assert_eq!(checkpoint.order.op, Op::Checkpoint);
    a.pass(ms(100));
    a.input(Input::Wake);
    a.done(&checkpoint);
    let stop = a.order();
    assert_eq!((stop.order.op.clone(), stop.order.until), (Op::Stop, a.now + secs(60)), "the fence moves on");
    assert!(a.asked.iter().all(|asked| asked.txn().put.len() == 1), "nothing is given back yet");
    a.done(&stop);
    let release = a.beat();
    assert_eq!(
        release.reign().released,
        Some(Released { end: Some(primacy_core::Lsn(200)), to: Some("b".into()) })
    );
    a.answer(&release);
    assert_eq!(a.node.lease(), None);
    assert_eq!(a.role(), "standby");
    let told = a.told();
    assert!(told.contains(&Event::HandsOver { to: Some("b".into()) }), "{told:?}");
    assert!(told.contains(&Event::Released { clean: true }), "{told:?}");
    assert_eq!(a.replies(), [], "nobody has taken it yet");
    a.news([Record::Reign(reign(3, "b")), Record::Rule(rule(3, "b", &["a", "c"]))]);
    assert_eq!(a.replies(), answered(Reply::SwitchedTo("b".into())));
}

#[test]
fn a_checkpoint_that_fails_only_makes_the_stop_longer() {
    let mut a = Host::primary_of(&[("b", 200)]);
    a.news([Record::Switchover(wish(None))]);
    let checkpoint = a.order();
    a.failed(&checkpoint, Failure::TimedOut);
    assert_eq!(a.role(), "leaving");
    assert!(a.told().contains(&Event::HandsOver { to: Some("b".into()) }));
    assert_eq!(a.op(), None, "after the pause");
    a.pass_pause();
    assert_eq!(a.op(), Some(&Op::Stop));
}

#[test]
fn the_target_stays_though_another_gets_ahead_while_the_checkpoint_is_written() {
    let mut a = Host::primary_of(&[("b", 200)]);
    a.news([Record::Switchover(wish(None))]);
    let checkpoint = a.order();
    a.postgres = writable(at(2, 300), &[("b", 200), ("c", 300)]);
    a.done(&checkpoint);
    assert_eq!(a.told().last(), Some(&Event::HandsOver { to: Some("b".into()) }));
}

#[test]
fn a_lease_that_ends_during_a_handover_is_still_handed_over() {
    let mut a = Host::primary_of(&[("b", 200)]);
    a.news([Record::Switchover(wish(None))]);
    let checkpoint = a.order();
    a.done(&checkpoint);
    let stop = a.order();
    a.told();
    a.wake_at(a.fence() - ms(900));
    assert_eq!(a.told(), [], "it stops anyway");
    let lost = a.beat();
    a.unknown(&lost);
    a.done(&stop);
    a.pass_pause();
    assert_eq!(a.beat().reign().released.as_ref().and_then(|released| released.to.clone()), Some("b".into()));
}
