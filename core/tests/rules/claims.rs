//! How a reign is taken.

use crate::host::*;
use primacy_core::event::Right;
use primacy_core::store::{Beat, EpochRecord, Key, News, Record, Reign, Request, Txn};
use primacy_core::{Boot, Epoch, Event, Guard, Input, Lsn, Node, Nonce, Timer};
use std::sync::Arc;

/// `a`, the last leader, claims epoch 2 at once: the store still names it.
fn claiming() -> Host {
    let mut a = Host::last_leader(config("a"));
    a.settle_until("claiming");
    a
}

#[test]
fn a_claim_is_one_transaction_over_everything_it_rests_on() {
    let mut a = claiming();
    let stands = Event::Stands { epoch: Epoch(2), right: Right::Leader, position: at(1, 100) };
    assert_eq!(a.told().last(), Some(&stands));
    let keys = [Key::Reign, Key::Beat, Key::Epoch(Epoch(2)), Key::Rule];
    let compare = keys.map(|key| (key.clone(), a.store.revision(&key))).to_vec();
    let claim = a.claim();
    let nonce = claim.reign().nonce;
    let (epoch, holder, end) = (Epoch(2), primacy_core::Name::from("a"), Lsn(100));
    let reign = Reign { boot: Boot(7), nonce, ..reign(2, "a") };
    let put = vec![
        Record::Reign(reign),
        Record::Beat(Beat { epoch, end }),
        Record::Epoch(EpochRecord { epoch, holder, nonce, fork: None, checkpointed: false }),
    ];
    assert_eq!(claim.request, Request::Transact(Txn { compare, put }));
    assert_eq!(claim.until, a.now + ms(400));
}

#[test]
fn the_new_epoch_is_above_every_reign_that_was_seen_and_every_timeline_that_was_written() {
    let taken = |highest: u32, reign_epoch: u32| {
        let mut past = saved("a", &[1, 2]);
        past.highest = Epoch(highest);
        let mut store = reign_of_a(2);
        write(&mut store, [Record::Reign(reign(reign_epoch, "a"))]);
        let mut a = Host::new(config("a"), past, store, stopped(at(2, 200)));
        a.input(Input::Guard(Guard::Idle));
        a.settle_until("claiming");
        a.claim().reign().epoch
    };
    assert_eq!(taken(2, 2), Epoch(3));
    assert_eq!(taken(2, 6), Epoch(7), "above the present reign");
    assert_eq!(taken(5, 6), Epoch(7), "above the highest that was seen");
}

#[test]
fn no_two_claims_have_the_same_mark() {
    let mut a = claiming();
    let first = a.claim();
    a.written([beat(1, 101)]);
    a.answer(&first);
    a.settle_until("claiming");
    assert_ne!(a.claim().reign().nonce, first.reign().nonce);
    assert_ne!(first.reign().nonce.0, 0, "zero stands for a promotion by hand");
}

/// The first numbers of SplitMix64 for the seed 0, as its authors give them.
#[test]
fn marks_are_drawn_from_the_boot_by_splitmix64() {
    let mut a = Host::last_leader(config("a"));
    a.node = Node::new(Arc::new(config("a")), Boot(0), saved("a", &[1]));
    a.asked.clear();
    a.input(Input::Guard(Guard::Idle));
    a.settle_until("claiming");
    let first = a.claim();
    assert_eq!(first.reign().nonce, Nonce(0xe220_a839_7b1d_cdaf));
    a.written([beat(1, 101)]);
    a.answer(&first);
    a.settle_until("claiming");
    assert_eq!(a.claim().reign().nonce, Nonce(0x6e78_9e6a_a1b9_65f4));
}

#[test]
fn a_claim_won_counts_from_its_sending() {
    let mut a = claiming();
    let claim = a.claim();
    a.pass(ms(390));
    a.answer(&claim);
    assert_eq!(a.told().last(), Some(&Event::Took { epoch: Epoch(2), fence_in: ms(4_490 - 390) }));
    assert_eq!(a.authority(), claim.sent + ms(4_990));
    a.wake_for(Timer::Beat);
    assert_eq!(a.now, claim.sent + ms(1_250), "as does its next beat");
    assert_eq!(a.node.saved().highest, Epoch(2));
}

#[test]
fn a_claim_may_be_won_by_what_the_watch_says() {
    let mut a = claiming();
    let claim = a.claim();
    let revision = a.apply(&claim).expect("applied");
    a.pass(ms(100));
    a.input(Input::News(News::Changed(revision, claim.txn().put.clone())));
    assert_eq!(a.role(), "promoting");
    assert_eq!(a.authority(), claim.sent + ms(4_990));
}

#[test]
fn a_claim_of_unknown_outcome_that_was_applied_counts_from_its_sending() {
    let mut a = claiming();
    let claim = a.claim();
    a.apply(&claim).expect("applied");
    a.pass(ms(400));
    a.unknown(&claim);
    assert_eq!(a.role(), "claiming");
    a.wake_for(Timer::Again);
    let read = a.read();
    a.answer(&read);
    assert_eq!(a.role(), "promoting");
    assert_eq!(a.authority(), claim.sent + ms(4_990));
}

#[test]
fn a_claim_of_unknown_outcome_that_was_not_applied_is_sent_again_just_as_it_was() {
    let mut a = claiming();
    let first = a.claim();
    a.pass(ms(400));
    a.unknown(&first);
    assert_eq!(a.asked, [], "not before the store was read");
    a.wake_for(Timer::Again);
    let read = a.read();
    assert_eq!(a.asked, []);
    a.answer(&read);
    let again = a.claim();
    assert_eq!(again.request, first.request);
    a.answer(&again);
    assert_eq!(a.authority(), first.sent + ms(4_990), "either of them may be the one that was applied");
}

#[test]
fn a_claim_sent_again_is_refused_by_its_own_first_sending() {
    let mut a = claiming();
    let first = a.claim();
    a.unknown(&first);
    a.wake_for(Timer::Again);
    let read = a.read();
    a.answer(&read);
    a.apply(&first).expect("applied late");
    let again = a.claim();
    a.answer(&again);
    assert_eq!(a.role(), "promoting");
    assert_eq!(a.authority(), first.sent + ms(4_990));
}

#[test]
fn a_claim_is_lost_to_whoever_was_faster() {
    let mut a = claiming();
    let claim = a.claim();
    a.written([Record::Reign(reign(2, "b"))]);
    a.told();
    a.answer(&claim);
    assert_eq!(a.told(), [Event::LostElection { to: "b".into() }]);
    assert_eq!(a.role(), "standby");
    assert_eq!(a.node.lease(), None);
}

#[test]
fn a_claim_is_lost_if_the_holder_beats_after_all() {
    let mut a = claiming();
    a.claim();
    a.news([beat(1, 101)]);
    assert_ne!(a.role(), "promoting");
    assert!(a.told().contains(&Event::HolderIsBack { holder: "a".into() }));
}

#[test]
fn a_reign_with_our_number_is_not_ours_without_our_mark_and_our_boot() {
    let taken_over = |change: fn(&mut Reign)| {
        let mut a = claiming();
        let claim = a.claim();
        let mut reign = claim.reign().clone();
        change(&mut reign);
        a.news([Record::Reign(reign)]);
        assert!(a.role() == "promoting" || a.told().contains(&Event::LostElection { to: "a".into() }));
        a.role() == "promoting"
    };
    assert!(taken_over(|_| ()));
    assert!(!taken_over(|reign| reign.nonce.0 += 1));
    assert!(!taken_over(|reign| reign.boot = Boot(8)));
    assert!(!taken_over(|reign| {
        reign.released = Some(primacy_core::store::Released { end: None, to: None });
    }));
}

#[test]
fn a_claim_that_is_refused_because_the_rule_was_written_goes_on_with_the_new_rule() {
    let mut a = claiming();
    let claim = a.claim();
    a.written([Record::Rule(rule(1, "a", &["b"]))]);
    a.answer(&claim);
    assert_eq!(a.role(), "claiming");
    let again = a.claim();
    assert_eq!(again.txn().put, claim.txn().put);
    assert!(a.apply(&again).is_some());
}

#[test]
fn a_claim_that_turns_out_to_be_won_at_its_fence_is_worth_nothing() {
    let won_at = |fence: primacy_core::Time| {
        let mut a = claiming();
        let claim = a.claim();
        a.told();
        a.now = fence;
        a.answer(&claim);
        a
    };
    let fence = START + ms(4_490);
    let just_in_time = won_at(fence - us(1));
    assert_eq!(just_in_time.node.saved().highest, Epoch(2));
    assert!(just_in_time.node.lease().is_some());
    let mut late = won_at(fence);
    assert!(late.node.lease().is_none());
    assert_eq!(late.told()[0], Event::LostLease { to: None });
    assert_eq!(late.node.saved().highest, Epoch(2), "its number is used up all the same");
    assert_eq!(late.role(), "claiming", "it stands anew");
    assert_eq!(late.claim().reign().epoch, Epoch(3));
}

#[test]
fn a_claim_waits_for_the_request_under_way_and_after_a_failed_one() {
    let mut b = Host::standby();
    b.input(Input::News(News::Interrupted));
    let read = b.read();
    b.unknown(&read);
    let released = Some(primacy_core::store::Released { end: Some(Lsn(200)), to: None });
    b.news([Record::Reign(Reign { released, ..reign(2, "a") })]);
    let look = b.order();
    b.done(&look);
    assert_eq!(b.asked, []);
    b.pass(ms(100));
    b.input(Input::Wake);
    let read = b.read();
    assert_eq!(b.role(), "standby", "one request at a time");
    b.answer(&read);
    assert_eq!(b.role(), "claiming");
}

#[test]
fn a_reign_begins_with_the_holders_own_t() {
    let mut settings = config("a");
    settings.ttl = secs(10);
    let mut a = Host::last_leader(settings);
    a.settle_until("claiming");
    assert_eq!(a.claim().reign().ttl, secs(10));
}

#[test]
fn a_claim_of_unknown_outcome_is_not_sent_again_once_the_store_is_known_to_have_gone_back() {
    let mut a = claiming();
    let claim = a.claim();
    a.told();
    write(&mut a.store, [Record::Epoch(epoch_record(2, "", None))]);
    a.unknown(&claim);
    a.pass_pause();
    let read = a.read();
    a.answer(&read);
    a.settle();
    assert_eq!((a.role(), &a.asked[..]), ("standby", &[][..]));
    assert_eq!(a.told(), [], "nobody was faster");
}

#[test]
fn a_store_that_went_back_ends_a_claim() {
    let mut a = claiming();
    let claim = a.claim();
    a.store = primacy_core::store::View::default();
    let effects = a.answer(&claim);
    assert_eq!(a.role(), "frozen", "{effects:?}");
    let asked: Vec<_> = a.asked.iter().flat_map(|asked| &asked.txn().put).collect();
    assert!(!asked.iter().any(|record| matches!(record, Record::Reign(_))), "{asked:?}");
}
