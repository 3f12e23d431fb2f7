//! How a lease is kept, and when it ends.

use crate::host::*;
use primacy_core::instance::{Instance, Op};
use primacy_core::store::{Beat, Key, News, Record, Reign, Request, Switchover, Txn};
use primacy_core::{Boot, Effect, Epoch, Event, Input, Lsn, Nonce, Timer};

#[test]
fn a_beat_compares_reign_and_beat_and_says_how_far_the_wal_goes() {
    let mut a = Host::primary();
    a.sees(writable(at(2, 345), &[]));
    let (reign, beat) = (a.store.revision(&Key::Reign), a.store.revision(&Key::Beat));
    let effects = a.wake_for(Timer::Beat);
    let compare = vec![(Key::Reign, reign), (Key::Beat, beat)];
    let put = vec![Record::Beat(Beat { epoch: Epoch(2), end: Lsn(345) })];
    let request = Request::Transact(Txn { compare, put });
    let id = a.beat().id;
    assert_eq!(effects, [Effect::Store { id, until: a.now + ms(400), request }]);
}

#[test]
fn beats_are_sent_every_quarter_of_the_lease() {
    let mut a = Host::primary();
    let before = a.now;
    assert_eq!(a.wake_at(before + ms(1_250) - us(1)), []);
    a.wake_at(before + ms(1_250));
    let first = a.beat();
    a.pass(ms(300));
    a.answer(&first);
    assert_eq!(a.node.deadline(a.now), Some((first.sent + ms(1_250), Timer::Beat)), "from the sending on");
}

#[test]
fn one_beat_at_a_time() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    a.pass(ms(399));
    assert_eq!(a.input(Input::Wake), []);
    assert_eq!(a.asked.len(), 1);
}

#[test]
fn authority_counts_from_the_sending_of_a_beat_whenever_its_answer_comes() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    a.pass(ms(399));
    let effects = a.answer(&beat);
    assert_eq!(a.authority(), beat.sent + ms(4_990));
    assert_eq!(effects, [Effect::Arm { epoch: Epoch(2), until: beat.sent + ms(4_490) }], "the fence moves");
}

#[test]
fn a_beat_without_an_answer_gives_nothing_and_is_sent_again() {
    let mut a = Host::primary();
    let before = a.authority();
    a.wake_for(Timer::Beat);
    let lost = a.beat();
    a.pass(ms(400));
    let authority_left = before.since(a.now);
    assert_eq!(a.unknown(&lost), [Effect::Tell(Event::BeatMissed { authority_left })]);
    assert_eq!(a.authority(), before);
    assert_eq!(a.wake_at(lost.sent + ms(500) - us(1)), []);
    a.wake_at(lost.sent + ms(500));
    let again = a.beat();
    assert_eq!(again.request, lost.request);
    a.answer(&again);
    assert_eq!(
        a.authority(),
        again.sent + ms(4_990),
        "its compares held: the first was not applied, and never will be"
    );
}

#[test]
fn of_several_beats_without_an_answer_the_first_counts() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let first = a.beat();
    a.pass(ms(400));
    a.unknown(&first);
    a.wake_for(Timer::Beat);
    let second = a.beat();
    a.apply(&second).expect("the second was applied");
    a.pass(ms(400));
    a.unknown(&second);
    a.wake_for(Timer::Beat);
    let third = a.beat();
    a.answer(&third);
    assert_eq!(a.authority(), first.sent + ms(4_990), "which one it was isn't known");
    let next = a.beat();
    assert_eq!(next.sent, a.now, "at once, now that the revision is known");
    a.answer(&next);
    assert_eq!(a.authority(), next.sent + ms(4_990));
}

#[test]
fn what_was_unknown_before_a_refusal_is_settled_by_it() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let first = a.beat();
    a.apply(&first);
    a.unknown(&first);
    a.wake_for(Timer::Beat);
    let second = a.beat();
    a.answer(&second);
    let third = a.beat();
    a.apply(&third);
    a.unknown(&third);
    a.wake_for(Timer::Beat);
    let fourth = a.beat();
    a.answer(&fourth);
    assert_eq!(a.authority(), third.sent + ms(4_990));
}

/// A wish that this primary has to refuse: nobody streams from it.
fn wish(to: Option<&str>) -> Record {
    Record::Switchover(Switchover { epoch: Epoch(2), to: to.map(Into::into), refused: None })
}

#[test]
fn a_refusal_for_another_records_sake_says_nothing_of_the_beats_before() {
    let mut a = Host::primary();
    let before = a.authority();
    a.wake_for(Timer::Beat);
    let lost = a.beat();
    a.unknown(&lost);
    a.news([wish(None)]);
    a.written([wish(Some("b"))]);
    a.wake_for(Timer::Beat);
    let refused = a.beat();
    a.answer(&refused);
    assert_eq!(a.authority(), before, "the record of the beats hasn't moved: none was applied");
    assert_eq!(a.beat().sent, a.now);
}

#[test]
fn what_the_holder_writes_travels_in_a_beat_at_once() {
    let mut a = Host::primary();
    a.pass(ms(10));
    a.news([wish(None)]);
    let beat = a.beat();
    let keys: Vec<_> = beat.txn().put.iter().map(Record::key).collect();
    assert_eq!(keys, [Key::Beat, Key::Switchover]);
    let compared: Vec<_> = beat.txn().compare.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(compared, [Key::Reign, Key::Beat, Key::Switchover]);
    let revisions = beat.txn().compare.iter().all(|(key, revision)| a.store.revision(key) == *revision);
    assert!(revisions, "as last read");
}

#[test]
fn after_a_failed_request_what_is_to_be_written_waits_but_a_due_beat_does_not() {
    let mut a = Host::primary();
    let before = a.now;
    a.wake_at(before + ms(1_200));
    a.input(Input::News(News::Interrupted));
    let read = a.read();
    a.unknown(&read);
    a.news([wish(None)]);
    assert_eq!(a.asked, []);
    a.wake_at(before + ms(1_250));
    a.beat();

    let mut a = Host::primary();
    a.pass(ms(1));
    a.input(Input::News(News::Interrupted));
    let read = a.read();
    a.unknown(&read);
    a.news([wish(None)]);
    a.wake_at(a.now + ms(100) - us(1));
    assert_eq!(a.asked, []);
    a.wake_at(a.now + us(1));
    a.beat();
}

#[test]
fn an_orderly_stop_begins_a_second_before_the_fence() {
    let mut a = Host::primary();
    let fence = a.fence();
    a.wake_at(fence - secs(1) - us(1));
    assert_eq!(a.role(), "primary");
    a.wake_at(fence - secs(1));
    assert_eq!(a.told(), [Event::LeaseEnds { fence_in: secs(1) }]);
    let stop = a.order();
    assert_eq!(stop.order.op, Op::Stop);
    a.wake_at(fence - us(1));
    assert_eq!((a.told(), a.op()), (vec![], None), "said once");
    assert_eq!(a.node.lease().map(|lease| lease.authority), Some(fence + ms(500)));
    a.wake_at(fence);
    assert_eq!(a.op(), Some(&Op::Kill), "no longer than that");
}

#[test]
fn an_instance_that_cannot_be_looked_at_takes_nothing_back_of_its_end() {
    let mut a = Host::primary();
    a.sees(Instance::Unknown);
    a.wake_for(Timer::Beat);
    let unseen = a.beat();
    assert_eq!(unseen.txn().put, [beat(2, 100)], "as published before");
    a.answer(&unseen);
    let look = a.order();
    a.postgres = writable(at(2, 300), &[]);
    a.done(&look);
    a.wake_for(Timer::Beat);
    assert_eq!(a.beat().txn().put[0], beat(2, 300));
}

#[test]
fn a_rule_that_changes_takes_nothing_back_of_the_end_either() {
    let mut a = Host::primary();
    a.sees(writable(at(2, 300), &[]));
    a.wake_for(Timer::Beat);
    let published = a.beat();
    a.answer(&published);
    a.news([Record::Member(member("d", 1))]);
    a.sees(writable(at(2, 100), &[("d", 100)]));
    let change = a.beat();
    assert_eq!(change.txn().put[0], beat(2, 300));
    assert!(matches!(change.txn().put[1..], [Record::Rule(_)]), "{:?}", change.txn().put);
}

#[test]
fn at_the_fence_the_lease_is_over_and_the_instance_is_killed() {
    let mut a = Host::primary();
    a.wake_at(a.fence());
    assert_eq!(a.told(), [Event::LostLease { to: None }]);
    assert_eq!(a.node.lease(), None);
    assert_eq!(a.op(), Some(&Op::Kill));
}

#[test]
fn a_lease_that_belongs_to_another_is_given_up_at_once() {
    let mut a = Host::primary();
    a.news([Record::Reign(reign(3, "b"))]);
    assert_eq!(a.told(), [Event::LostLease { to: Some("b".into()) }]);
    assert_eq!(a.op(), Some(&Op::Kill));
    assert_eq!(a.node.authority(), None);
}

#[test]
fn a_beat_refused_because_another_reigns_ends_the_lease() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    a.written([Record::Reign(reign(3, "b"))]);
    a.answer(&beat);
    assert_eq!(a.told(), [Event::LostLease { to: Some("b".into()) }]);
    assert_eq!(a.node.authority(), None);
}

#[test]
fn a_reign_is_ones_own_by_epoch_nonce_and_boot() {
    let own = Host::primary().node.view().reign.as_ref().expect("a reign").value.as_ref().clone();
    let others = [
        changed(&own, |reign| reign.epoch = Epoch(3)),
        changed(&own, |reign| reign.nonce = Nonce(reign.nonce.0 + 1)),
        changed(&own, |reign| reign.boot = Boot(reign.boot.0 + 1)),
    ];
    for other in others {
        let mut a = Host::primary();
        a.news([Record::Reign(other)]);
        assert_eq!(a.told(), [Event::LostLease { to: Some("a".into()) }]);
    }
    let mut a = Host::primary();
    a.news([Record::Reign(own)]);
    assert_eq!(a.role(), "primary");
}

fn changed(own: &Reign, change: impl Fn(&mut Reign)) -> Reign {
    let mut reign = own.clone();
    change(&mut reign);
    reign
}

#[test]
fn an_answer_to_a_beat_of_a_lost_lease_is_not_taken() {
    let mut a = Host::primary();
    a.wake_for(Timer::Beat);
    let beat = a.beat();
    a.wake_at(a.fence());
    a.told();
    a.answer(&beat);
    assert_eq!(a.node.lease(), None);
    assert_eq!(a.fences, []);
}

#[test]
fn a_node_may_be_called_primary_until_its_authority_ends() {
    let a = Host::primary();
    assert!(a.node.is_primary(a.authority() - us(1)));
    assert!(!a.node.is_primary(a.authority()), "also if its agent sleeps");
    assert!(!Host::standby().node.is_primary(START));
}

#[test]
fn a_holder_whose_postgresql_is_not_writable_is_not_the_primary() {
    let mut a = Host::primary();
    a.sees(stopped(at(2, 100)));
    assert_eq!(a.role(), "primary", "it starts it again");
    assert!(!a.node.is_primary(a.now));
}

#[test]
fn a_beat_overtaken_by_one_that_was_not_answered_is_no_error_of_ours() {
    let mut a = Host::primary();
    a.sees(writable(at(2, 300), &[]));
    a.wake_for(Timer::Beat);
    let first = a.beat();
    let revision = a.apply(&first).expect("applied");
    a.unknown(&first);
    a.sees(Instance::Unknown);
    a.wake_for(Timer::Beat);
    assert_eq!(a.beat().txn().put[0], beat(2, 100), "as far as it was seen in the store");
    a.input(Input::News(News::Changed(revision, vec![beat(2, 300)])));
    assert_eq!(a.role(), "primary");
}
