//! A store that is made anew from one member's copy.

use crate::host::*;
use primacy_core::event::{Frozen, Right};
use primacy_core::instance::{Op, Saved};
use primacy_core::rebuild::{MARGIN, records};
use primacy_core::store::{Record, View};
use primacy_core::{Epoch, Event, Nonce};

/// A store that was empty, made anew from a copy of `a` at this place.
fn rebuilt(saved: &Saved, position: primacy_core::Position) -> Option<View> {
    let mut view = View::default();
    let records = records(&view, &"a".into(), saved, &data(position), secs(5), Nonce(9_999))?;
    write(&mut view, records);
    Some(view)
}

#[test]
fn the_member_that_counts_leads_beyond_every_reign_that_can_have_been() {
    let store = rebuilt(&saved("a", &[1, 2]), at(2, 250)).unwrap();
    let mut a = Host::looked(config("a"), saved("a", &[1, 2]), store, stopped(at(2, 250)));
    a.settle();
    assert_eq!(a.op(), None);
    a.wake_for(primacy_core::Timer::Election);
    a.settle();
    let stood = a.told().into_iter().find(|event| matches!(event, Event::Stands { .. }));
    let epoch = Epoch(2 + MARGIN + 1);
    assert_eq!(stood, Some(Event::Stands { epoch, right: Right::Leader, position: at(2, 250) }));
    assert_eq!(a.role(), "primary");
}

#[test]
fn others_wait_for_it_and_are_judged_by_its_history() {
    let store = rebuilt(&saved("a", &[1, 2]), at(2, 250)).unwrap();
    let mut b = Host::looked(config("b"), saved("b", &[1, 2]), store.clone(), stopped(at(2, 240)));
    b.settle();
    assert_eq!((b.role(), b.node.needs_operator()), ("standby", None));
    let (next, fork) = (2 + MARGIN + 1, at(2, 250));
    b.news([Record::Reign(reign(next, "a")), Record::Epoch(epoch_record(next, "a", Some(fork)))]);
    assert_eq!(b.op(), Some(&Op::Follow("a".into())));

    let mut empty =
        Host::looked(config("c"), Saved::default(), store, primacy_core::instance::Instance::Absent);
    empty.settle();
    assert_eq!(empty.op(), None, "nobody founds another cluster");
}

#[test]
fn a_member_that_has_seen_more_than_the_margin_says_so() {
    let store = rebuilt(&saved("a", &[1]), at(1, 50)).unwrap();
    let copy = Saved { highest: Epoch(1 + MARGIN), ..saved("b", &[1]) };
    let mut b = Host::looked(config("b"), copy.clone(), store.clone(), stopped(at(1, 40)));
    b.settle();
    assert_eq!(b.node.needs_operator(), None);
    let mut b =
        Host::looked(config("b"), Saved { highest: Epoch(2 + MARGIN), ..copy }, store, stopped(at(1, 40)));
    b.settle();
    let why = Frozen::StoreWentBack { seen: Epoch(2 + MARGIN), found: Epoch(1 + MARGIN) };
    assert_eq!(b.node.needs_operator(), Some(why));
}

#[test]
fn a_copy_whose_reigns_nobody_knows_can_not_count() {
    assert!(rebuilt(&saved("a", &[1, 2]), at(2, 250)).is_some());
    assert!(rebuilt(&saved("a", &[1]), at(2, 250)).is_none(), "a timeline without a reign");
    let by_hand = Saved { lineage: vec![(Epoch(1), nonce_of(1)), (Epoch(2), Nonce(0))], ..saved("a", &[1]) };
    assert!(rebuilt(&by_hand, at(2, 250)).is_none(), "a person promoted it");
    assert!(rebuilt(&by_hand, at(1, 50)).is_none(), "or did before");
    assert!(rebuilt(&Saved { highest: Epoch(u32::MAX), ..saved("a", &[1]) }, at(1, 50)).is_none());
}

#[test]
fn what_the_store_still_knows_counts_too() {
    let copy = saved("a", &[1, 2]);
    let epoch = |store: &View| {
        let records = records(store, &"a".into(), &copy, &data(at(2, 250)), secs(5), Nonce(9));
        records.unwrap().into_iter().find_map(|record| match record {
            Record::Reign(reign) => Some(reign.epoch),
            _ => None,
        })
    };
    assert_eq!(epoch(&reign_of_a(5)), Some(Epoch(5 + MARGIN)));
    let mut store = View::default();
    write(&mut store, [Record::Epoch(epoch_record(40, "", None))]);
    assert_eq!(epoch(&store), Some(Epoch(40 + MARGIN)), "somebody has written down that it has been");
}
