//! The same requests to a real etcd and to the store of the simulated world: whatever the core sees of them must be the
//! same. Nobody else writes to this etcd, so even the revisions are.

use super::EtcdStore;
use super::mirror::SharedLease;
use super::tests::{Etcd, PATIENCE, news, reign};
use crate::clock::now;
use primacy_core::store::{
    Answer, Beat, EpochRecord, Initialize, Key, Leader, Member, News, Pledge, Record, Released, Request,
    Response, Rule, Switchover, Txn, View,
};
use primacy_core::{Boot, CopyId, Epoch, Lsn, Name, Nonce, Position, Revision, Span, SystemId};
use primacy_driver::Store;
use primacy_etcd::Instant;
use primacy_sim::world::store::Store as Fake;
use std::collections::BTreeMap;

/// Requests that are drawn.
const REQUESTS: u32 = 300;

/// Draws numbers by Knuth's linear congruential generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn name(&mut self) -> Name {
        ["a", "b", "c"][usize::try_from(self.below(3)).expect("a few")].into()
    }

    /// A record of any kind, with any content.
    fn record(&mut self) -> Record {
        let (epoch, lsn) = (Epoch(u32::try_from(self.below(4)).expect("a few")), Lsn(self.below(1 << 40)));
        let (copy, position) = (CopyId(self.below(9)), Position { epoch, lsn });
        match self.below(9) {
            0 => reign(None),
            1 => reign(Some(Released { end: self.happens(50).then_some(lsn), to: None })),
            2 => Record::Beat(Beat { epoch, end: lsn }),
            3 => {
                let electable = BTreeMap::from([(self.name(), copy)]);
                Record::Rule(Rule { epoch, leader: self.name(), leader_copy: copy, electable })
            }
            4 => {
                let (nonce, fork) = (Nonce(self.below(u64::MAX)), self.happens(50).then_some(position));
                let checkpointed = self.happens(50);
                Record::Epoch(EpochRecord { epoch, holder: self.name(), nonce, fork, checkpointed })
            }
            5 => {
                let held = self.happens(50);
                Record::Pledge(Pledge { member: self.name(), epoch, held, position, copy })
            }
            6 => Record::Member(Member { name: self.name(), copy, priority: 1 }),
            7 => {
                let to = self.happens(50).then(|| self.name());
                Record::Switchover(Switchover { epoch, to, refused: None })
            }
            _ => {
                let system = self.happens(50).then(|| SystemId(self.below(u64::MAX)));
                Record::Initialize(Initialize { by: self.name(), boot: Boot(3), system, foreign: false })
            }
        }
    }

    /// Writes one to three records, and compares some, mostly with what is there.
    fn transaction(&mut self, view: &View) -> Txn {
        let mut put: BTreeMap<Key, Record> = BTreeMap::new();
        for _ in 0..=self.below(3) {
            let record = self.record();
            put.insert(record.key(), record);
        }
        let others = [self.record().key(), self.record().key()];
        let keys: Vec<Key> = put.keys().cloned().chain(others).collect();
        let mut compare = Vec::new();
        for key in keys {
            // A claim to the bootstrap also compares what only other managers make.
            if key == Key::Initialize || self.happens(40) {
                continue;
            }
            let late = if self.happens(8) { self.below(3) } else { 0 };
            compare.push((key.clone(), Revision(view.revision(&key).0.saturating_sub(late))));
        }
        Txn { compare, put: put.into_values().collect() }
    }
}

/// Without the mirrored leader: who it names is compared, and who makes it again when it has vanished is another's affair.
fn shown(view: &View) -> (View, Option<Name>) {
    let leader = view.leader.as_ref().and_then(|leader| leader.name.clone());
    (View { leader: None, ..view.clone() }, leader)
}

fn told(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| !matches!(record, Record::Leader(Leader { .. })));
    records.sort_by_key(Record::key);
    records
}

/// The next change. An interruption only asks for a read, which a changed claim to the bootstrap does as well.
async fn change(store: &EtcdStore) -> (Revision, Vec<Record>) {
    loop {
        if let News::Changed(at, records) = news(store).await {
            return (at, records);
        }
    }
}

#[tokio::test]
async fn the_simulated_store_answers_as_etcd_does() {
    let etcd = Etcd::start().await;
    let lease = SharedLease::default();
    let granted = etcd.client().lease_grant(PATIENCE * 10, None, Instant::now() + PATIENCE).await;
    lease.set(granted.expect("a lease").id);
    let (store, mut fake, mut dice) = (etcd.store_with(lease), Fake::default(), Dice(1));
    assert_eq!(news(&store).await, News::Interrupted, "the watch stands");
    let (mut committed, mut refused) = (0, 0);
    for number in 0..REQUESTS {
        let request = Request::Transact(dice.transaction(&fake.view));
        let (expected, written) = fake.answer(&request);
        match (store.ask(request.clone(), now() + Span::secs(2)).await, expected) {
            (Response::Transact(Answer::Committed(at)), Response::Transact(Answer::Committed(expected))) => {
                assert_eq!(at, expected, "{number}: {request:?}");
                committed += 1;
            }
            (Response::Transact(Answer::Refused(view)), Response::Transact(Answer::Refused(expected))) => {
                assert_eq!(shown(&view), shown(&expected), "{number}: {request:?}");
                refused += 1;
            }
            (answer, expected) => panic!("{number}: {request:?}: {answer:?} instead of {expected:?}"),
        }
        if let Some((at, records)) = written {
            let (seen_at, seen) = change(&store).await;
            assert_eq!((seen_at, told(seen)), (at, told(records)), "{number}: {request:?}");
        }
        let Response::Read(Some(view)) = store.ask(Request::Read, now() + Span::secs(2)).await else {
            panic!("{number}: no view")
        };
        assert_eq!(shown(&view), shown(&fake.view), "{number}: {request:?}");
    }
    assert!(committed > 100 && refused > 20, "{committed} committed, {refused} refused");
}
